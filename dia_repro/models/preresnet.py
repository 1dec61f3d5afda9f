"""PreResNet for 32×32 images: normalise and activate before each convolution.

He, Zhang, Ren, Sun: Identity Mappings in Deep Residual Networks, ECCV 2016, with the settings
that reproduce the DIANet paper's parameter counts: bottleneck blocks of depth 9n+2, planes
16/32/64, expansion 4, 1×1 projection shortcuts without BN, BN and ReLU after the last stage.
"""

from __future__ import annotations

from torch import nn

from dia_repro.models.attention import AttentionFactory
from dia_repro.models.blocks import Geometry, Options, ResidualBlock
from dia_repro.models.initialise import initialise_he
from dia_repro.models.network import StagedNetwork, StagePlan, blocks_for_depth

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
        shortcut: list[nn.Module] | None = None
        if geometry.stride != 1 or geometry.in_channels != out:
            shortcut = [options.conv(geometry.in_channels, out, 1, geometry.stride)]
        super().__init__(layers, shortcut, options, out, relu=False)


def preresnet(
    depth: int, classes: int, attention: AttentionFactory, options: Options
) -> StagedNetwork:
    """A CIFAR PreResNet of depth 9n+2.

    Raises:
        ImpossibleNetworkError: the depth does not divide into whole blocks.
    """
    blocks = blocks_for_depth(depth, len(PLANES), 3, extra=2)
    network = StagedNetwork(
        stem=[options.conv(3, PLANES[0], 3)],
        channels=PLANES[0],
        plan=[StagePlan(blocks, width, 1 if width == PLANES[0] else 2) for width in PLANES],
        make_block=lambda geometry: PreActivationBottleneck(geometry, options),
        attention=attention,
        classes=classes,
        tail=options.bn_relu,
    )
    initialise_he(network)
    return network
