"""Table 1: no attention, SE and DIA-SE on ResNet164, CIFAR-100."""

from __future__ import annotations

from dia_repro.artifacts.networks import SE16, resnet
from dia_repro.artifacts.table import Entry, TableArtifact
from dia_repro.experiments.spec import Attention, NoAttention, SEAttention

ATTENTIONS: dict[str, Attention] = {
    "Org": NoAttention(),
    "SE": SE16,
    "DIA-SE": SEAttention(kind="dia-se", reduction=16),
}

TABLE1 = TableArtifact(
    name="table1",
    row_heading="Attention",
    attention_in="row",
    best_of="column",
    entries=tuple(
        Entry(row, "ResNet164", resnet(164, attention)) for row, attention in ATTENTIONS.items()
    ),
)
