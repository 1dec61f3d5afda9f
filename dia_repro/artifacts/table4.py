"""Table 4: DIANet164 with reduction ratio 1, 4, 8 and 16, CIFAR-100."""

from __future__ import annotations

from dia_repro.artifacts.networks import dianet164, resnet
from dia_repro.artifacts.table import Entry, TableArtifact
from dia_repro.experiments.spec import ModelSpec, NoAttention

RATIOS = (1, 4, 8, 16)
COLUMN, ORIGINAL = "DIANet164", ("original", "ResNet164")


def _entry(row: str, column: str, model: ModelSpec, *, shown: bool = True) -> Entry:
    return Entry(
        row=row,
        column=column,
        model=model,
        compared_with=ORIGINAL if shown else None,
        shown=shown,
    )


TABLE4 = TableArtifact(
    name="table4",
    row_heading="Ratio",
    attention_in="row",
    entries=(
        *(_entry(f"r={r}", COLUMN, dianet164(reduction=r)) for r in RATIOS),
        _entry(*ORIGINAL, resnet(164, NoAttention()), shown=False),
    ),
)
