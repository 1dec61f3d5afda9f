"""Table 3: original, SENet and DIANet on eight networks, CIFAR-100, CIFAR-10 and ImageNet."""

from __future__ import annotations

from dia_repro.artifacts.networks import CIFAR_FAMILIES, COLUMNS, IMAGENET_FAMILIES
from dia_repro.artifacts.table import Entry, TableArtifact

DATASETS = (
    ("CIFAR100", "cifar100", CIFAR_FAMILIES),
    ("CIFAR10", "cifar10", CIFAR_FAMILIES),
    ("ImageNet", "imagenet", IMAGENET_FAMILIES),
)

TABLE3 = TableArtifact(
    name="table3",
    row_heading="Model, data set",
    best_of="row",
    entries=tuple(
        Entry(
            f"{name} {label}",
            column,
            family.model(column),
            network=family.network,
            dataset=dataset,
        )
        for label, dataset, families in DATASETS
        for name, family in families.items()
        for column in COLUMNS
    ),
)
