"""Wide ResNet for 32×32 images.

Zagoruyko, Komodakis: Wide Residual Networks, BMVC 2016, arXiv:1605.07146: depth 6n+4, widths
16k/32k/64k, dropout between the two 3×3 convolutions. Where the shape changes, the shortcut
is a 1×1 convolution of the activated input, as in the authors' code.
"""

from __future__ import annotations

from torch import nn

from dia_repro.experiments.backbones import WRNBackbone
from dia_repro.models.blocks import Geometry, Options, ResidualBlock
from dia_repro.models.network import (
    Architecture,
    StagedNetwork,
    architecture,
    initialise_he,
    stages,
)

STEM = 16
PLANES = (16, 32, 64)


class WideBlock(ResidualBlock):
    """BN → ReLU → 3×3 (stride) → BN → ReLU → dropout → 3×3; attention; shortcut."""

    def __init__(self, geometry: Geometry, options: Options, dropout: float) -> None:
        width = geometry.width
        layers = [
            options.conv(geometry.in_channels, width, 3, geometry.stride),
            *options.bn_relu(width),
            nn.Dropout(dropout),
            options.conv(width, width, 3),
        ]
        activation = options.bn_relu(geometry.in_channels)
        if geometry.stride == 1 and geometry.in_channels == width:
            super().__init__([*activation, *layers], None, options, width, relu=False)
        else:
            shortcut = options.conv(geometry.in_channels, width, 1, geometry.stride)
            super().__init__(layers, [shortcut], options, width, relu=False, entry=activation)


def initialise(network: StagedNetwork) -> None:
    """Draw weights as `initialise_he` does, and set the classifier's bias to 0."""
    initialise_he(network)
    nn.init.zeros_(network.classifier.bias)


@architecture.register
def wrn(spec: WRNBackbone, options: Options) -> Architecture:
    """Return a wide ResNet's architecture."""
    return Architecture(
        stem=[options.conv(3, STEM, 3)],
        channels=STEM,
        stages=stages([spec.blocks] * 3, PLANES, spec.widen_factor),
        make_block=lambda geometry: WideBlock(geometry, options, spec.dropout),
        tail=options.bn_relu,
        initialise=initialise,
    )
