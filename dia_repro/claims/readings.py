"""Readings of Figures 5 and 6: the values that the claims on them rest on, and what these say.

Each value is of one trained network or pair, and above 0 where the network has what the paper says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dia_repro.analysis.gini import Integration
from dia_repro.analysis.gradients import RecordedRun
from dia_repro.analysis.states import Source
from dia_repro.paper import claim

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


@dataclass(frozen=True)
class Statement:
    """A claim of the paper, and what one figure says of it.

    Attributes:
        text: what it says, in short.
        holds: whether it does here.
        evidence: the figures that say so.
    """

    text: str
    holds: bool
    evidence: str

    def __str__(self) -> str:
        return f"{self.text}: {'holds' if self.holds else 'does not hold'} here ({self.evidence})"


def of_integration(found: Sequence[Integration]) -> list[Statement]:
    """Of Figure 5, as far as the stages are there (section "Feature integration")."""
    trained = {one.settings.stage: one for one in found if one.settings.source is Source.TRAINED}
    shuffled = {one.settings.stage: one for one in found if one.settings.source is Source.SHUFFLED}
    said = []
    if gains := density_gains(trained):
        evidence = "mean cell " + ", ".join(f"{trained[stage].density():.3f}" for stage in STAGES)
        if 3 in shuffled:
            evidence += f"; where nothing is learned, shuffled, {shuffled[3].density():.3f}"
        said.append(_statement("figure5-stage3", gains, evidence))
    if gains := earliness(trained):
        evidence = f"from layer {trained[1].main_source_of_last()} of {trained[1].layers - 1}"
        said.append(_statement("figure5-early", gains, evidence))
    return said


def of_gradients(found: Sequence[RecordedRun]) -> list[Statement]:
    """Of Figure 6, if both its networks are there: at the first and at the last record."""
    runs = {one.label: one for one in found}
    if not {"original", "DIANet"} <= runs.keys():
        return []
    dianet, original = runs["DIANet"], runs["original"]
    said = []
    for moment, name in enumerate(("figure6-initial", "figure6-trained")):
        ours = dianet.records[dianet.moments[moment]]
        theirs = original.records[original.moments[moment]]
        gains = gradient_gains(ours, theirs)
        ratios = ", ".join(f"{label} {10**gain:.2g}" for label, gain in gains.items())
        if gains.keys() < RATIOS.keys():
            ratios = "; ".join([ratios, "the others vanished or are not finite"])
        said.append(_statement(name, gains, ratios, whole=gains.keys() == RATIOS.keys()))
    return said


def _statement(
    name: str, gains: Mapping[str, float], evidence: str, *, whole: bool = True
) -> Statement:
    holds = whole and bool(gains) and all(gain > 0 for gain in gains.values())
    return Statement(claim(name).text, holds, evidence or "all of them vanished")
