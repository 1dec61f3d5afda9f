"""ResNet34, 50, 152 and ResNeXt50 32×4d for ImageNet: 7×7 stem, max pooling, four stages.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016, Table 1; Xie et
al.: Aggregated Residual Transformations, CVPR 2017, Table 1. The paper's counts for the
"original" and DIANet columns count a bias on every convolution (not for ResNeXt50).
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from dia_repro.experiments.backbones import ImageNetBackbone
from dia_repro.models.blocks import Bottleneck, Geometry, Options
from dia_repro.models.network import Architecture, architecture, stages
from dia_repro.models.resnet import EXPANSION, BasicBlock, expanded

STEM = 64
WIDTHS = (64, 128, 256, 512)
GROUPS, WIDTH_RATIO = 32, 2


def grouped(geometry: Geometry, options: Options) -> Bottleneck:
    """Return a block of ResNeXt50 32×4d."""
    inner, out = geometry.width * WIDTH_RATIO, geometry.width * EXPANSION
    return Bottleneck(geometry, options, inner, out, GROUPS)


# The block of each network, and how many of them each stage has.
NETWORKS = {
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (expanded, (3, 4, 6, 3)),
    "resnet152": (expanded, (3, 8, 36, 3)),
    "resnext50": (grouped, (3, 4, 6, 3)),
}


@architecture.register
def imagenet(spec: ImageNetBackbone, options: Options) -> Architecture:
    """Return one of `NETWORKS`, for images of any size from 32 pixels."""
    make, depths = NETWORKS[spec.family]
    options = replace(options, conv_bias=spec.conv_bias)
    return Architecture(
        stem=[
            *options.conv_bn(3, STEM, 7, 2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        ],
        channels=STEM,
        stages=stages(depths, WIDTHS),
        make_block=lambda geometry: make(geometry, options),
    )
