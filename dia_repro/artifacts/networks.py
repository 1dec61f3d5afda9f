"""The paper's networks in the paper's words, with the settings that give its #P."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dia_repro.experiments.attention import AttentionSpec
from dia_repro.experiments.spec import (
    Attention,
    Backbone,
    DIALSTMAttention,
    ImageNetBackbone,
    ModelSpec,
    NoAttention,
    PreResNetBackbone,
    ResNetBackbone,
    ResNeXtBackbone,
    SEAttention,
    WRNBackbone,
)

COLUMNS = ORIGINAL, SENET, DIANET = "original", "SENet", "DIANet"
SE4, SE16 = SEAttention(kind="se", reduction=4), SEAttention(kind="se", reduction=16)
DIA_SE16 = SEAttention(kind="dia-se", reduction=16)
DIA4, DIA10, DIA20 = (DIALSTMAttention(reduction=r) for r in (4, 10, 20))
DIA4_BN = DIALSTMAttention(reduction=4, extraction="bn+gap")


def attentions(reduction: int = 4) -> dict[str, AttentionSpec]:
    """Return the attention of the networks that the paper compares; `reduction` is DIANet's r."""
    dia = DIALSTMAttention(reduction=reduction)
    return {ORIGINAL: NoAttention(), SENET: SE16, DIANET: dia}


@dataclass(frozen=True)
class Family:
    """A row of Table 3.

    Attributes:
        network: column of Table 10 or 11 with its recipe.
        se: SE modules whose count is the paper's.
        biased: columns whose printed #P count a bias on every convolution.
    """

    network: str
    backbone: Backbone
    se: SEAttention = SE16
    dia: DIALSTMAttention = DIA4
    biased: tuple[str, ...] = ()

    def model(self, column: str) -> ModelSpec:
        """Return the network in a column of Table 3."""
        attention = {ORIGINAL: NoAttention(), SENET: self.se, DIANET: self.dia}[column]
        backbone = self.backbone
        if isinstance(backbone, ImageNetBackbone):
            backbone = backbone.model_copy(update={"conv_bias": column in self.biased})
        return ModelSpec(backbone=backbone, attention=attention)


RESNET164 = Family("ResNet164", ResNetBackbone(depth=164))
CIFAR_FAMILIES = {
    "ResNet164": RESNET164,
    "PreResNet164": Family(
        "PreResNet164",
        PreResNetBackbone(depth=164),
        SEAttention(kind="se", reduction=16, bias=False),
        DIA4_BN,
    ),
    "WRN52-4": Family("WRN52-4", WRNBackbone(depth=52), SE4, DIA4_BN),
    "ResNext101,8x32": Family(
        "ResNext101-8x32",
        ResNeXtBackbone(depth=101),
        SEAttention(kind="se", reduction=4, bias=False),
    ),
}
IMAGENET_FAMILIES = {
    "ResNet34": Family("ResNet34", ImageNetBackbone(family="resnet34"), SE16, DIA20, COLUMNS),
    "ResNet50": Family(
        "ResNet50", ImageNetBackbone(family="resnet50"), SE16, DIA20, (ORIGINAL, DIANET)
    ),
    "ResNet152": Family(
        "ResNet152", ImageNetBackbone(family="resnet152"), SE16, DIA10, (ORIGINAL, DIANET)
    ),
    "ResNext50,32x4": Family("ResNext50-32x4", ImageNetBackbone(family="resnext50"), SE16, DIA20),
}


def resnet(depth: int, attention: Attention, *, norm: bool = True) -> ModelSpec:
    """Return a CIFAR ResNet with bottleneck blocks."""
    return ModelSpec(backbone=ResNetBackbone(depth=depth), attention=attention, norm=norm)


def dianet164(**options: Any) -> ModelSpec:
    """Return DIANet164 as the ablations vary it, with options of `DIALSTMAttention`."""
    return resnet(164, DIALSTMAttention(**options))
