"""Figure 5: the network whose feature integration is analysed, DIANet164 on CIFAR-100."""

from __future__ import annotations

from dia_repro.artifacts.networks import DIANET, dianet164
from dia_repro.artifacts.table import Drawing, Entry, TableArtifact

FIGURE5 = TableArtifact(
    name="figure5",
    row_heading="Network",
    drawings=(Drawing.ACCURACY, Drawing.HEATMAP),
    entries=(Entry("DIANet164", DIANET, dianet164()),),
)
