"""The figures that the claims on Figures 5 and 6 are read from, of one trained network or pair.

Each is above 0 where the network has what the paper says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dia_repro.analysis.gini import Integration

# A source before the middle of the layers before it is an early one.
EARLY = 0.5
STAGES = (1, 2, 3)
OTHERS = {"stage 3 − stage 1": 1, "stage 3 − stage 2": 2}
MIDDLE = "middle − main source of the last layer"
RATIOS = {
    f"stage {stage}: {figure}, DIANet ÷ original": (stage, figure)
    for stage in STAGES
    for figure in ("mean", "variance")
}


@dataclass(frozen=True)
class Reading:
    """What is read, in which order, and its unit."""

    labels: tuple[str, ...]
    unit: str


DENSITY = Reading(tuple(OTHERS), "of a cell")
EARLINESS = Reading((MIDDLE,), "% of layers")
GRADIENTS = Reading(tuple(RATIOS), "powers of ten")


def density_gains(stages: Mapping[int, Integration]) -> dict[str, float]:
    """Mean cell of stage 3's heatmap minus that of each other stage, if all are there."""
    if not set(STAGES) <= stages.keys():
        return {}
    density = {stage: stages[stage].density() for stage in STAGES}
    return {label: density[3] - density[other] for label, other in OTHERS.items()}


def earliness(stages: Mapping[int, Integration]) -> dict[str, float]:
    """How far before the middle stage 1's last layer has its main source, in % of the layers.

    A layer stands in the middle of its share of them: the ninth of 17 at 50 %.
    """
    if 1 not in stages:
        return {}
    before = stages[1].layers - 1
    main = stages[1].main_source_of_last()
    return {MIDDLE: 100 * (EARLY - (main - 0.5) / before)}


def gradient_gains(
    dianet: Sequence[Mapping[str, Any]], original: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """DIANet's mean and variance over the original's, as powers of ten, for each stage.

    A ratio is left out where one of the two vanished or is not finite.
    """
    return {
        label: math.log10(ours / theirs)
        for label, (stage, figure) in RATIOS.items()
        if 0 < (ours := dianet[stage - 1][figure]) < math.inf
        and 0 < (theirs := original[stage - 1][figure]) < math.inf
    }
