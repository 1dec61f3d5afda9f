"""Table 6: DIANet164's output activation and number of stacked LSTM cells, CIFAR-100."""

from __future__ import annotations

from dia_repro.artifacts.networks import dianet164
from dia_repro.artifacts.table import Entry, TableArtifact

VARIANTS = (("sigmoid", 1), ("tanh", 1), ("ReLU", 1), ("sigmoid", 3), ("tanh", 3))

TABLE6 = TableArtifact(
    name="table6",
    row_heading="Activation, cells",
    attention_in="row",
    entries=tuple(
        Entry(
            f"{activation}, {cells} cell{'s' if cells > 1 else ''}",
            "DIANet164",
            dianet164(activation=activation.lower(), cells=cells),
        )
        for activation, cells in VARIANTS
    ),
)
