"""The paper's networks, tables and figures, in its words and order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dia_repro.artifacts.table import Drawing, Entry, TableArtifact
from dia_repro.experiments.attention import AttentionSpec
from dia_repro.experiments.spec import (
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


def resnet(depth: int, attention: AttentionSpec, *, norm: bool = True) -> ModelSpec:
    """Return a CIFAR ResNet with bottleneck blocks."""
    return ModelSpec(backbone=ResNetBackbone(depth=depth), attention=attention, norm=norm)


def dianet164(**options: Any) -> ModelSpec:
    """Return DIANet164 as the ablations vary it, with options of `DIALSTMAttention`."""
    return resnet(164, DIALSTMAttention(**options))


RATIOS = (1, 4, 8, 16)  # r in Table 4
DEPTHS = (83, 164, 245, 407)  # in Table 5
DEPTHS_WITHOUT_BN = (83, 164, 245, 326)  # in Table 8

TABLE1 = TableArtifact(
    name="table1",
    row_heading="Attention",
    attention_in="row",
    best_of="column",
    entries=tuple(
        Entry(row, "ResNet164", resnet(164, attention))
        for row, attention in {"Org": NoAttention(), "SE": SE16, "DIA-SE": DIA_SE16}.items()
    ),
)

TABLE3 = TableArtifact(
    name="table3",
    row_heading="Model, data set",
    best_of="row",
    entries=tuple(
        Entry(f"{name} {label}", column, family.model(column), family.network, dataset)
        for label, dataset, families in (
            ("CIFAR100", "cifar100", CIFAR_FAMILIES),
            ("CIFAR10", "cifar10", CIFAR_FAMILIES),
            ("ImageNet", "imagenet", IMAGENET_FAMILIES),
        )
        for name, family in families.items()
        for column in COLUMNS
    ),
)

_ORIGINAL164 = Entry("original", "ResNet164", resnet(164, NoAttention()), shown=False)
TABLE4 = TableArtifact(
    name="table4",
    row_heading="Ratio",
    attention_in="row",
    entries=(
        *(
            Entry(
                f"r={r}", "DIANet164", dianet164(reduction=r), compared_with=_ORIGINAL164.position
            )
            for r in RATIOS
        ),
        _ORIGINAL164,
    ),
)

TABLE5 = TableArtifact(
    name="table5",
    row_heading="Depth",
    headings={DIANET: "DIANet (r=4)"},
    entries=tuple(
        Entry(
            f"ResNet{depth}",
            column,
            resnet(depth, attentions()[column]),
            compared_with=(f"ResNet{depth}", SENET) if column == DIANET else None,
        )
        for depth in DEPTHS
        for column in (SENET, DIANET)
    ),
)

TABLE6 = TableArtifact(
    name="table6",
    row_heading="Activation, cells",
    attention_in="row",
    entries=tuple(
        Entry(
            f"{activation}, {cells} cell{'s' if cells > 1 else ''}",
            "DIANet164",
            dianet164(activation=activation.lower(), cells=cells),
        )
        for cells, activations in {1: ("sigmoid", "tanh", "ReLU"), 3: ("sigmoid", "tanh")}.items()
        for activation in activations
    ),
)

_DIANET164 = Entry("none", "DIANet164", dianet164(), shown=False)
TABLE7 = TableArtifact(
    name="table7",
    row_heading="Removed",
    attention_in="row",
    entries=(
        *(
            Entry(
                f"stage{removed}",
                "DIANet164",
                dianet164(stages=kept),
                compared_with=_DIANET164.position,
            )
            for removed, kept in {1: (2, 3), 2: (1, 3), 3: (1, 2)}.items()
        ),
        _DIANET164,
    ),
)

TABLE8 = TableArtifact(
    name="table8",
    row_heading="Depth",
    headings={DIANET: "DIANet (r=16)"},
    best_of="row",
    drawings=(Drawing.ACCURACY, Drawing.LOSS),
    entries=tuple(
        Entry(f"ResNet{depth}", column, resnet(depth, attention, norm=False), numerics_matter=True)
        for depth in DEPTHS_WITHOUT_BN
        for column, attention in attentions(16).items()
    ),
)

TABLE9 = TableArtifact(
    name="table9",
    row_heading="Model",
    attention_in="row",
    best_of="column",
    entries=tuple(
        Entry(row, column, RESNET164.model(model), dataset=dataset, augment=False)
        for row, model in {"ResNet164": ORIGINAL, "SENet": SENET, "DIANet": DIANET}.items()
        for column, dataset in {"CIFAR-10": "cifar10", "CIFAR-100": "cifar100"}.items()
    ),
)

# The network whose feature integration is analysed.
FIGURE5 = TableArtifact(
    name="figure5",
    row_heading="Network",
    drawings=(Drawing.ACCURACY, Drawing.HEATMAP),
    entries=(Entry("DIANet164", DIANET, dianet164()),),
)

# The networks whose gradients are compared. The paper says neither on what data nor with which
# blocks: CIFAR-100, as in its other ablations, and basic blocks, which are what ResNet56 has where
# its authors define it. SENet is beyond the paper.
FIGURE6 = TableArtifact(
    name="figure6",
    row_heading="Network",
    drawings=(Drawing.ACCURACY, Drawing.HISTOGRAMS),
    entries=tuple(
        Entry(
            "ResNet56",
            column,
            ModelSpec(
                backbone=ResNetBackbone(depth=56, block="basic"),
                attention=attentions()[column],
                skip=False,
            ),
            numerics_matter=True,
            shown=column != SENET,
        )
        for column in (ORIGINAL, DIANET, SENET)
    ),
)

PAPERS = (TABLE1, TABLE3, TABLE4, TABLE5, TABLE6, TABLE7, TABLE8, TABLE9, FIGURE5, FIGURE6)
