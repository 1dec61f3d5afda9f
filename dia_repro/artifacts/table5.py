"""Table 5: SENet and DIANet (r=4) at depth 83, 164, 245 and 407 on CIFAR-100."""

from __future__ import annotations

from dia_repro.artifacts.table import Entry, TableArtifact
from dia_repro.experiments.spec import (
    Attention,
    DIALSTMAttention,
    ModelSpec,
    ResNetBackbone,
    SEAttention,
)

DEPTHS = (83, 164, 245, 407)
COLUMNS: dict[str, Attention] = {
    "SENet": SEAttention(kind="se", reduction=16),
    "DIANet": DIALSTMAttention(reduction=4),
}


def _entry(depth: int, column: str) -> Entry:
    return Entry(
        row=f"ResNet{depth}",
        column=column,
        model=ModelSpec(backbone=ResNetBackbone(depth=depth), attention=COLUMNS[column]),
        network="ResNet164",
        dataset="cifar100",
        compared_with="SENet" if column == "DIANet" else None,
    )


TABLE5 = TableArtifact(
    name="table5",
    row_heading="Depth",
    headings={"DIANet": "DIANet (r=4)"},
    entries=tuple(_entry(depth, column) for depth in DEPTHS for column in COLUMNS),
)
