"""Table 9: ResNet164, SENet and DIANet without data augmentation, CIFAR-10 and CIFAR-100."""

from __future__ import annotations

from dia_repro.artifacts.networks import DIANET, ORIGINAL, RESNET164, SENET
from dia_repro.artifacts.table import Entry, TableArtifact

ROWS = {"ResNet164": ORIGINAL, "SENet": SENET, "DIANet": DIANET}
DATASETS = {"CIFAR-10": "cifar10", "CIFAR-100": "cifar100"}

TABLE9 = TableArtifact(
    name="table9",
    row_heading="Model",
    attention_in="row",
    best_of="column",
    entries=tuple(
        Entry(
            row,
            column,
            RESNET164.model(model),
            network=RESNET164.network,
            dataset=dataset,
            augment=False,
        )
        for row, model in ROWS.items()
        for column, dataset in DATASETS.items()
    ),
)
