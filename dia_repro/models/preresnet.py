"""PreResNet for 32×32 images: normalise and activate before each convolution.

He, Zhang, Ren, Sun: Identity Mappings in Deep Residual Networks, ECCV 2016, with the settings
that reproduce the DIANet paper's parameter counts: bottleneck blocks of depth 9n+2, planes
16/32/64, expansion 4, 1×1 projection shortcuts without BN, BN and ReLU after the last stage.
"""

from __future__ import annotations

from dataclasses import replace

from dia_repro.experiments.backbones import PreResNetBackbone
from dia_repro.models.blocks import Geometry, Options, ResidualBlock, projection
from dia_repro.models.network import Architecture, architecture, stages

PLANES = (16, 32, 64)
EXPANSION = 4


class PreActivationBottleneck(ResidualBlock):
    """BN → ReLU → 1×1 → BN → ReLU → 3×3 (stride) → BN → ReLU → 1×1 (×4); attention; shortcut."""

    def __init__(self, geometry: Geometry, options: Options) -> None:
        width, out = geometry.width, geometry.width * EXPANSION
        layers = [
            *options.bn_relu(geometry.in_channels),
            options.conv(geometry.in_channels, width, 1),
            *options.bn_relu(width),
            options.conv(width, width, 3, geometry.stride),
            *options.bn_relu(width),
            options.conv(width, out, 1),
        ]
        shortcut = projection(geometry, out, replace(options, norm=False))
        super().__init__(layers, shortcut, options, out, relu=False)


@architecture.register
def preresnet(spec: PreResNetBackbone, options: Options) -> Architecture:
    """Return a CIFAR PreResNet's architecture."""
    return Architecture(
        stem=[options.conv(3, PLANES[0], 3)],
        channels=PLANES[0],
        stages=stages([spec.blocks] * 3, PLANES),
        make_block=lambda geometry: PreActivationBottleneck(geometry, options),
        tail=options.bn_relu,
    )
