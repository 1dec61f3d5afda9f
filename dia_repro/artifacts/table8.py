"""Table 8: training without batch normalisation at depth 83, 164, 245 and 326, CIFAR-100."""

from __future__ import annotations

from dia_repro.artifacts.networks import DIANET, ORIGINAL, SE16, SENET, resnet
from dia_repro.artifacts.table import Drawing, Entry, TableArtifact
from dia_repro.experiments.spec import Attention, DIALSTMAttention, NoAttention

DEPTHS = (83, 164, 245, 326)
ATTENTIONS: dict[str, Attention] = {
    ORIGINAL: NoAttention(),
    SENET: SE16,
    DIANET: DIALSTMAttention(reduction=16),
}

TABLE8 = TableArtifact(
    name="table8",
    row_heading="Depth",
    headings={DIANET: "DIANet (r=16)"},
    best_of="row",
    drawings=(Drawing.ACCURACY, Drawing.LOSS),
    entries=tuple(
        Entry(f"ResNet{depth}", column, resnet(depth, attention, norm=False), numerics_matter=True)
        for depth in DEPTHS
        for column, attention in ATTENTIONS.items()
    ),
)
