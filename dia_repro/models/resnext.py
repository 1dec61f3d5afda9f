"""ResNeXt for 32×32 images.

Xie, Girshick, Dollár, Tu, He: Aggregated Residual Transformations for Deep Neural Networks,
CVPR 2017, with the settings that reproduce the DIANet paper's parameter counts: depth 9n+2,
stem of 32 channels, stages of 32/64/128 times the widen factor, and grouped 3×3 convolutions of
cardinality / widen factor times the stage's channels.
"""

from __future__ import annotations

from torch import nn

from dia_repro.experiments.backbones import ResNeXtBackbone
from dia_repro.models.blocks import Bottleneck, Geometry, Options
from dia_repro.models.network import Architecture, architecture, stages

STEM = 32
PLANES = (32, 64, 128)


def initialise_kaiming(network: nn.Module) -> None:
    """Draw weights as ResNeXt's authors do: Kaiming normal, BN 1 and 0, classifier's bias 0.

    Convolutions count fan-out and their groups; the classifier counts fan-in.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and name == "classifier":
            nn.init.kaiming_normal_(module.weight)
            nn.init.zeros_(module.bias)


@architecture.register
def resnext(spec: ResNeXtBackbone, options: Options) -> Architecture:
    """Return a CIFAR ResNeXt's architecture; stages have as many channels as their width."""

    def make_block(geometry: Geometry) -> Bottleneck:
        inner = spec.cardinality * geometry.width // spec.widen_factor
        return Bottleneck(geometry, options, inner, geometry.width, spec.cardinality)

    return Architecture(
        stem=[*options.conv_bn(3, STEM, 3), nn.ReLU(inplace=True)],
        channels=STEM,
        stages=stages([spec.blocks] * 3, PLANES, spec.widen_factor),
        make_block=make_block,
        initialise=initialise_kaiming,
    )
