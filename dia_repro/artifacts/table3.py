"""Table 3: original, SENet and DIANet on eight networks, CIFAR-100, CIFAR-10 and ImageNet."""

from __future__ import annotations

from collections.abc import Iterator

from dia_repro.artifacts.networks import CIFAR_FAMILIES, COLUMNS, IMAGENET_FAMILIES, Family
from dia_repro.artifacts.table import Entry, TableArtifact


def _rows() -> Iterator[tuple[str, str, Family]]:
    for label, dataset in (("CIFAR100", "cifar100"), ("CIFAR10", "cifar10")):
        for name, family in CIFAR_FAMILIES.items():
            yield f"{name} {label}", dataset, family
    for name, family in IMAGENET_FAMILIES.items():
        yield f"{name} ImageNet", "imagenet", family


TABLE3 = TableArtifact(
    name="table3",
    row_heading="Model, data set",
    best_of="row",
    entries=tuple(
        Entry(
            row=row,
            column=column,
            model=family.model(column),
            network=family.network,
            dataset=dataset,
        )
        for row, dataset, family in _rows()
        for column in COLUMNS
    ),
)
