"""ResNeXt for 32×32 images.

Xie, Girshick, Dollár, Tu, He: Aggregated Residual Transformations for Deep Neural Networks,
CVPR 2017, with the settings that reproduce the DIANet paper's parameter counts: depth 9n+2,
stem of 32 channels, stages of 32/64/128 times the widen factor, and grouped 3×3 convolutions of
cardinality / widen factor times the stage's channels.
"""

from __future__ import annotations

from torch import nn

from dia_repro.models.attention import AttentionFactory
from dia_repro.models.blocks import Geometry, Options, ResidualBlock
from dia_repro.models.initialise import initialise_kaiming
from dia_repro.models.network import StagedNetwork, StagePlan, blocks_for_depth
from dia_repro.models.resnet import projection

STEM = 32
PLANES = (32, 64, 128)


class AggregatedBlock(ResidualBlock):
    """1×1 → BN → ReLU → grouped 3×3 (stride) → BN → ReLU → 1×1 → BN; attention; shortcut; ReLU."""

    def __init__(
        self, geometry: Geometry, options: Options, cardinality: int, widen_factor: int
    ) -> None:
        out = geometry.width
        inner = cardinality * out // widen_factor
        layers = [
            *options.conv_bn(geometry.in_channels, inner, 1),
            nn.ReLU(inplace=True),
            *options.conv_bn(inner, inner, 3, geometry.stride, groups=cardinality),
            nn.ReLU(inplace=True),
            *options.conv_bn(inner, out, 1),
        ]
        super().__init__(layers, projection(geometry, out, options), options, out, relu=True)


def resnext(
    depth: int,
    cardinality: int,
    widen_factor: int,
    classes: int,
    attention: AttentionFactory,
    options: Options,
) -> StagedNetwork:
    """A CIFAR ResNeXt of depth 9n+2.

    Raises:
        ImpossibleNetworkError: the depth does not divide into whole blocks.
    """
    blocks = blocks_for_depth(depth, len(PLANES), 3, extra=2)
    network = StagedNetwork(
        stem=[*options.conv_bn(3, STEM, 3), nn.ReLU(inplace=True)],
        channels=STEM,
        plan=[
            StagePlan(blocks, width * widen_factor, 1 if width == PLANES[0] else 2)
            for width in PLANES
        ],
        make_block=lambda geometry: AggregatedBlock(geometry, options, cardinality, widen_factor),
        attention=attention,
        classes=classes,
    )
    initialise_kaiming(network)
    return network
