"""Figure 6: the networks whose gradients are compared, ResNet56 without skip connections.

The paper says neither on what data nor with which blocks: CIFAR-100, as in its other
ablations, and basic blocks, which are what ResNet56 has where its authors define it.
"""

from __future__ import annotations

from dia_repro.artifacts.networks import DIANET, ORIGINAL, SE16, SENET
from dia_repro.artifacts.table import Drawing, Entry, TableArtifact
from dia_repro.experiments.spec import (
    Attention,
    DIALSTMAttention,
    ModelSpec,
    NoAttention,
    ResNetBackbone,
)

ATTENTIONS: dict[str, Attention] = {
    ORIGINAL: NoAttention(),
    DIANET: DIALSTMAttention(reduction=4),
    SENET: SE16,  # beyond the paper
}

FIGURE6 = TableArtifact(
    name="figure6",
    row_heading="Network",
    drawings=(Drawing.ACCURACY, Drawing.HISTOGRAMS),
    entries=tuple(
        Entry(
            row="ResNet56",
            column=column,
            model=ModelSpec(
                backbone=ResNetBackbone(depth=56, block="basic"), attention=attention, skip=False
            ),
            numerics_matter=True,
            shown=column != SENET,
        )
        for column, attention in ATTENTIONS.items()
    ),
)
