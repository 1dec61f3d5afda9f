"""Table 7: DIANet164 without the DIA unit of one stage, CIFAR-100."""

from __future__ import annotations

from dia_repro.artifacts.networks import dianet164
from dia_repro.artifacts.table import Entry, TableArtifact
from dia_repro.experiments.spec import ModelSpec

STAGES = (1, 2, 3)
COLUMN, WHOLE = "DIANet164", ("none", "DIANet164")


def _entry(row: str, model: ModelSpec, *, shown: bool = True) -> Entry:
    return Entry(
        row=row,
        column=COLUMN,
        model=model,
        compared_with=WHOLE if shown else None,
        shown=shown,
    )


TABLE7 = TableArtifact(
    name="table7",
    row_heading="Removed",
    attention_in="row",
    entries=(
        *(
            _entry(f"stage{out}", dianet164(stages=tuple(s for s in STAGES if s != out)))
            for out in STAGES
        ),
        _entry(WHOLE[0], dianet164(), shown=False),
    ),
)
