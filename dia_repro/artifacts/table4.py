"""Table 4: DIANet164 with reduction ratio 1, 4, 8 and 16, CIFAR-100."""

from __future__ import annotations

from dia_repro.artifacts.networks import dianet164, resnet
from dia_repro.artifacts.table import Entry, TableArtifact
from dia_repro.experiments.spec import NoAttention

RATIOS = (1, 4, 8, 16)
ORIGINAL = ("original", "ResNet164")

TABLE4 = TableArtifact(
    name="table4",
    row_heading="Ratio",
    attention_in="row",
    entries=(
        *(
            Entry(f"r={r}", "DIANet164", dianet164(reduction=r), compared_with=ORIGINAL)
            for r in RATIOS
        ),
        Entry(*ORIGINAL, resnet(164, NoAttention()), shown=False),
    ),
)
