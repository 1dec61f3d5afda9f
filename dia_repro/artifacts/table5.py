"""Table 5: SENet and DIANet (r = 4) at depth 83, 164, 245 and 407 on CIFAR-100."""

from __future__ import annotations

from dia_repro.artifacts.networks import DIANET, SE16, SENET, resnet
from dia_repro.artifacts.table import Entry, TableArtifact
from dia_repro.experiments.spec import Attention, DIALSTMAttention

DEPTHS = (83, 164, 245, 407)
ATTENTIONS: dict[str, Attention] = {SENET: SE16, DIANET: DIALSTMAttention(reduction=4)}

TABLE5 = TableArtifact(
    name="table5",
    row_heading="Depth",
    headings={DIANET: "DIANet (r=4)"},
    entries=tuple(
        Entry(
            f"ResNet{depth}",
            column,
            resnet(depth, attention),
            compared_with=(f"ResNet{depth}", SENET) if column == DIANET else None,
        )
        for depth in DEPTHS
        for column, attention in ATTENTIONS.items()
    ),
)
