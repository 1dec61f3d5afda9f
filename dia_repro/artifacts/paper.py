"""The paper's tables and figures: the networks of each, in the paper's order."""

from __future__ import annotations

from dia_repro.artifacts.networks import (
    CIFAR_FAMILIES,
    COLUMNS,
    DIA_SE16,
    DIANET,
    IMAGENET_FAMILIES,
    ORIGINAL,
    RESNET164,
    SE16,
    SENET,
    attentions,
    dianet164,
    resnet,
)
from dia_repro.artifacts.table import Drawing, Entry, TableArtifact
from dia_repro.experiments.spec import ModelSpec, NoAttention, ResNetBackbone

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
