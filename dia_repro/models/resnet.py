"""ResNet for 32×32 images.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2, with
the settings that reproduce the DIANet paper's parameter counts: planes 16/32/64, a 3×3 stem
of 16 channels, projection shortcuts (1×1 convolution and BN) wherever the shape changes.
Bottleneck blocks have expansion 4 and depth 9n+2, basic blocks expansion 1 and depth 6n+2.
"""

from __future__ import annotations

from torch import nn

from dia_repro.models.attention import AttentionFactory
from dia_repro.models.blocks import Geometry, Options, ResidualBlock
from dia_repro.models.initialise import initialise_he
from dia_repro.models.network import StagedNetwork, StagePlan, blocks_for_depth

PLANES = (16, 32, 64)
BOTTLENECK_EXPANSION = 4


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


class Bottleneck(ResidualBlock):
    """1×1 → BN → ReLU → 3×3 (stride) → BN → ReLU → 1×1 (×4) → BN; attention; shortcut; ReLU."""

    def __init__(self, geometry: Geometry, options: Options) -> None:
        out = geometry.width * BOTTLENECK_EXPANSION
        layers = [
            *options.conv_bn(geometry.in_channels, geometry.width, 1),
            nn.ReLU(inplace=True),
            *options.conv_bn(geometry.width, geometry.width, 3, geometry.stride),
            nn.ReLU(inplace=True),
            *options.conv_bn(geometry.width, out, 1),
        ]
        super().__init__(layers, projection(geometry, out, options), options, out, relu=True)


def projection(geometry: Geometry, out: int, options: Options) -> list[nn.Module] | None:
    """1×1 convolution (stride) → BN where the shape changes; None where it does not."""
    if geometry.stride == 1 and geometry.in_channels == out:
        return None
    return options.conv_bn(geometry.in_channels, out, 1, geometry.stride)


def resnet(
    depth: int, block: str, classes: int, attention: AttentionFactory, options: Options
) -> StagedNetwork:
    """A CIFAR ResNet.

    Args:
        depth: 9n+2 (`bottleneck`) or 6n+2 (`basic`).
        block: `bottleneck` or `basic`.

    Raises:
        ImpossibleNetworkError: the depth does not divide into whole blocks.
    """
    kind, layers = (BasicBlock, 2) if block == "basic" else (Bottleneck, 3)
    blocks = blocks_for_depth(depth, len(PLANES), layers, extra=2)
    network = StagedNetwork(
        stem=[*options.conv_bn(3, PLANES[0], 3), nn.ReLU(inplace=True)],
        channels=PLANES[0],
        plan=[StagePlan(blocks, width, 1 if width == PLANES[0] else 2) for width in PLANES],
        make_block=lambda geometry: kind(geometry, options),
        attention=attention,
        classes=classes,
    )
    initialise_he(network)
    return network
