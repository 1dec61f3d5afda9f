"""ResNet for 32×32 images.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2, with
the settings that reproduce the DIANet paper's parameter counts: planes 16/32/64, a 3×3 stem
of 16 channels, projection shortcuts (1×1 convolution and BN) wherever the shape changes.
Bottleneck blocks have expansion 4 and depth 9n+2, basic blocks expansion 1 and depth 6n+2.
"""

from __future__ import annotations

from torch import nn

from dia_repro.experiments.backbones import ResNetBackbone
from dia_repro.models.blocks import Bottleneck, Geometry, Options, ResidualBlock, projection
from dia_repro.models.network import Architecture, architecture, stages

PLANES = (16, 32, 64)
EXPANSION = 4


class BasicBlock(ResidualBlock):
    """3×3 (stride) → BN → ReLU → 3×3 → BN; attention; shortcut; ReLU."""

    def __init__(self, geometry: Geometry, options: Options) -> None:
        layers = [
            *options.conv_bn(geometry.in_channels, geometry.width, 3, geometry.stride),
            nn.ReLU(inplace=True),
            *options.conv_bn(geometry.width, geometry.width, 3),
        ]
        shortcut = projection(geometry, geometry.width, options)
        super().__init__(layers, shortcut, options, geometry.width, relu=True)


def expanded(geometry: Geometry, options: Options) -> Bottleneck:
    """Return a bottleneck block of a ResNet."""
    return Bottleneck(geometry, options, geometry.width, geometry.width * EXPANSION)


@architecture.register
def resnet(spec: ResNetBackbone, options: Options) -> Architecture:
    """Return a CIFAR ResNet's architecture."""
    make = BasicBlock if spec.block == "basic" else expanded
    return Architecture(
        stem=[*options.conv_bn(3, PLANES[0], 3), nn.ReLU(inplace=True)],
        channels=PLANES[0],
        stages=stages([spec.blocks] * 3, PLANES),
        make_block=lambda geometry: make(geometry, options),
    )
