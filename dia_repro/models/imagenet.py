"""ResNet34, 50, 152 and ResNeXt50 32×4d for ImageNet: 7×7 stem, max pooling, four stages.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016, Table 1; Xie et
al.: Aggregated Residual Transformations, CVPR 2017, Table 1. The paper's figures for the
"original" and DIANet columns count a bias on every convolution (not for ResNeXt50).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from dia_repro.models.attention import AttentionFactory
from dia_repro.models.blocks import Geometry, Options, ResidualBlock
from dia_repro.models.initialise import initialise_he
from dia_repro.models.network import StagedNetwork, StagePlan
from dia_repro.models.resnet import BasicBlock, Bottleneck, projection

STEM = 64
WIDTHS = (64, 128, 256, 512)
RESNEXT_GROUPS, RESNEXT_WIDTH_RATIO = 32, 2


class ResNeXtBottleneck(ResidualBlock):
    """1×1 → BN → ReLU → 3×3 in 32 groups (stride) → BN → ReLU → 1×1 → BN; attention; …; ReLU."""

    def __init__(self, geometry: Geometry, options: Options) -> None:
        inner, out = geometry.width * RESNEXT_WIDTH_RATIO, geometry.width * 4
        layers = [
            *options.conv_bn(geometry.in_channels, inner, 1),
            nn.ReLU(inplace=True),
            *options.conv_bn(inner, inner, 3, geometry.stride, groups=RESNEXT_GROUPS),
            nn.ReLU(inplace=True),
            *options.conv_bn(inner, out, 1),
        ]
        super().__init__(layers, projection(geometry, out, options), options, out, relu=True)


@dataclass(frozen=True)
class Architecture:
    """A network's block and how many of them each stage has."""

    block: type[BasicBlock | Bottleneck | ResNeXtBottleneck]
    blocks: tuple[int, int, int, int]


ARCHITECTURES = {
    "resnet34": Architecture(BasicBlock, (3, 4, 6, 3)),
    "resnet50": Architecture(Bottleneck, (3, 4, 6, 3)),
    "resnet152": Architecture(Bottleneck, (3, 8, 36, 3)),
    "resnext50": Architecture(ResNeXtBottleneck, (3, 4, 6, 3)),
}


def imagenet_resnet(
    name: str, classes: int, attention: AttentionFactory, options: Options
) -> StagedNetwork:
    """One of `ARCHITECTURES`, for images of any size from 32 pixels."""
    architecture = ARCHITECTURES[name]
    network = StagedNetwork(
        stem=[
            nn.Conv2d(3, STEM, 7, stride=2, padding=3, bias=options.conv_bias),
            *options.bn(STEM),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        ],
        channels=STEM,
        plan=[
            StagePlan(blocks, width, 1 if width == WIDTHS[0] else 2)
            for blocks, width in zip(architecture.blocks, WIDTHS, strict=True)
        ],
        make_block=lambda geometry: architecture.block(geometry, options),
        attention=attention,
        classes=classes,
    )
    initialise_he(network)
    return network
