"""The paper's networks in the paper's words, with the settings that give its #P."""

from __future__ import annotations

from dataclasses import dataclass

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

ORIGINAL, SENET, DIANET = "original", "SENet", "DIANet"


@dataclass(frozen=True)
class Family:
    """A row of Table 3.

    Attributes:
        network: the column of Table 10 or 11 that says how it is trained.
        reduction: r of DIANet.
        se: the SE modules whose count is the paper's.
        extraction: F_ext of DIANet.
        biased: the columns whose printed #P count a bias on every convolution.
    """

    network: str
    backbone: Backbone
    reduction: int
    se: SEAttention
    extraction: str = "gap"
    biased: tuple[str, ...] = ()

    def model(self, column: str) -> ModelSpec:
        """The network of a column of Table 3."""
        attentions: dict[str, Attention] = {
            ORIGINAL: NoAttention(),
            SENET: self.se,
            DIANET: DIALSTMAttention(reduction=self.reduction, extraction=self.extraction),  # type: ignore[arg-type]
        }
        backbone = self.backbone
        if isinstance(backbone, ImageNetBackbone):
            backbone = backbone.model_copy(update={"conv_bias": column in self.biased})
        return ModelSpec(backbone=backbone, attention=attentions[column])


SE16 = SEAttention(kind="se", reduction=16)
BN_GAP = "bn+gap"

RESNET164 = Family("ResNet164", ResNetBackbone(depth=164), 4, SE16)
CIFAR_FAMILIES = {
    "ResNet164": RESNET164,
    "PreResNet164": Family(
        "PreResNet164",
        PreResNetBackbone(depth=164),
        4,
        SEAttention(kind="se", reduction=16, bias=False),
        BN_GAP,
    ),
    "WRN52-4": Family(
        "WRN52-4", WRNBackbone(depth=52), 4, SEAttention(kind="se", reduction=4), BN_GAP
    ),
    "ResNext101,8x32": Family(
        "ResNext101-8x32",
        ResNeXtBackbone(depth=101),
        4,
        SEAttention(kind="se", reduction=4, bias=False),
    ),
}
IMAGENET_FAMILIES = {
    "ResNet34": Family(
        "ResNet34",
        ImageNetBackbone(family="resnet34"),
        20,
        SE16,
        biased=(ORIGINAL, SENET, DIANET),
    ),
    "ResNet50": Family(
        "ResNet50", ImageNetBackbone(family="resnet50"), 20, SE16, biased=(ORIGINAL, DIANET)
    ),
    "ResNet152": Family(
        "ResNet152", ImageNetBackbone(family="resnet152"), 10, SE16, biased=(ORIGINAL, DIANET)
    ),
    "ResNext50,32x4": Family("ResNext50-32x4", ImageNetBackbone(family="resnext50"), 20, SE16),
}
COLUMNS = (ORIGINAL, SENET, DIANET)


def resnet(depth: int, attention: Attention, *, norm: bool = True) -> ModelSpec:
    """A CIFAR ResNet with bottleneck blocks."""
    return ModelSpec(backbone=ResNetBackbone(depth=depth), attention=attention, norm=norm)


def dianet164(
    *,
    reduction: int = 4,
    activation: str = "sigmoid",
    cells: int = 1,
    stages: tuple[int, ...] | None = None,
) -> ModelSpec:
    """DIANet164 as the ablations vary it."""
    attention = DIALSTMAttention(
        reduction=reduction,
        activation=activation,  # type: ignore[arg-type]
        cells=cells,
        stages=stages,
    )
    return resnet(164, attention)
