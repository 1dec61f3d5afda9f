"""Table 7: DIANet164 without the DIA unit of one stage, CIFAR-100."""

from __future__ import annotations

from dia_repro.artifacts.networks import dianet164
from dia_repro.artifacts.table import Entry, TableArtifact

WHOLE = ("none", "DIANet164")
# The stages that keep their unit, by the stage that is without.
KEPT = {1: (2, 3), 2: (1, 3), 3: (1, 2)}

TABLE7 = TableArtifact(
    name="table7",
    row_heading="Removed",
    attention_in="row",
    entries=(
        *(
            Entry(f"stage{out}", "DIANet164", dianet164(stages=kept), compared_with=WHOLE)
            for out, kept in KEPT.items()
        ),
        Entry(*WHOLE, dianet164(), shown=False),
    ),
)
