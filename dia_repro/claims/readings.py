"""Readings of Figures 5 and 6: the values that the claims on them rest on.

Each value is of one trained network or pair, and above 0 where the network has what the paper says.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from dia_repro.analysis.gini import Integration
from dia_repro.analysis.gradients import RecordedRun
from dia_repro.analysis.states import Source

# A source before the middle of the layers before it is an early one.
EARLY = 0.5
STAGES = (1, 2, 3)
OTHERS = {"stage 3 − stage 1": 1, "stage 3 − stage 2": 2}
# Stage 3's heatmap is the densest where nothing is learned, too: what training adds counts.
CONTROLS = {"trained − before training": Source.INITIAL, "trained − shuffled": Source.SHUFFLED}
MIDDLE = "middle − main source of the last layer"
DIVIDED = "DIANet ÷ original"
RATIOS = {
    f"stage {stage}: {figure}, {DIVIDED}": (stage, figure)
    for stage in STAGES
    for figure in ("mean", "variance")
}
Analyses = Mapping[tuple[Source, int], Sequence[Integration]]  # one for each seed of the forests


@dataclass(frozen=True)
class Reading:
    """What is read, in which order, and its unit."""

    labels: tuple[str, ...]
    unit: str


DENSITY = Reading(
    (*OTHERS, *(f"{gap}, {control}" for control in CONTROLS for gap in OTHERS)), "of a cell"
)
EARLINESS = Reading((MIDDLE,), "% of layers")
GRADIENTS = Reading(tuple(RATIOS), "powers of ten")


def density_gains(kept: Analyses) -> dict[str, float]:
    """Return how much denser stage 3's heatmap is than others: trained, and minus its controls.

    Density is the mean cell, averaged over the forests' seeds. What is not analysed is left out.
    """
    trained = _gaps(kept, Source.TRAINED)
    gains = {gap: fmean(gaps[gap] for gaps in trained.values()) for gap in OTHERS if trained}
    for control, source in CONTROLS.items():
        others = _gaps(kept, source)
        if common := trained.keys() & others.keys():
            for gap in OTHERS:
                differences = (trained[seed][gap] - others[seed][gap] for seed in sorted(common))
                gains[f"{gap}, {control}"] = fmean(differences)
    return gains


def _gaps(kept: Analyses, source: Source) -> dict[int, dict[str, float]]:
    """Return stage 3's density minus that of other stages, by seed of the forests.

    A seed also chooses the images, so only stages with the same seed are compared.
    """
    density: dict[int, dict[int, float]] = defaultdict(dict)
    for stage in STAGES:
        for one in kept.get((source, stage), ()):
            density[one.settings.seed][stage] = one.density()
    return {
        seed: {gap: of[3] - of[other] for gap, other in OTHERS.items()}
        for seed, of in density.items()
        if len(of) == len(STAGES)
    }


def earliness(kept: Analyses) -> dict[str, float]:
    """Return how far before the middle stage 1's last layer has its main source, in % of layers.

    A layer stands in the middle of its share of them: the ninth of 17 at 50 %. Averaged over the
    forests' seeds.
    """
    found = kept.get((Source.TRAINED, 1), ())
    places = [(one.main_source_of_last() - 0.5) / (one.layers - 1) for one in found]
    return {MIDDLE: 100 * (EARLY - fmean(places))} if places else {}


def gradient_gains(
    dianet: Sequence[Mapping[str, Any]], original: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Return DIANet's mean and variance over the original's, as powers of ten, for each stage.

    Where a value is 0 or not finite there is no ratio: -inf if it is DIANet's, inf if it is the
    original's, nan if both are.
    """
    return {
        label: _log_ratio(dianet[stage - 1][value], original[stage - 1][value])
        for label, (stage, value) in RATIOS.items()
    }


def _log_ratio(ours: float, theirs: float) -> float:
    sound = tuple(0 < value < math.inf for value in (ours, theirs))
    if all(sound):
        return math.log10(ours / theirs)
    return math.nan if not any(sound) else math.inf if sound[0] else -math.inf


def integration_facts(found: Sequence[Integration]) -> list[str]:
    """Return in words what one run's Figure 5 shows (section "Feature integration")."""
    density = {(one.settings.source, one.settings.stage): one.density() for one in found}
    facts = []
    if all((Source.TRAINED, stage) in density for stage in STAGES):
        by_source = [
            f"{source} {', '.join(f'{density[source, stage]:.3f}' for stage in STAGES)}"
            for source in Source
            if all((source, stage) in density for stage in STAGES)
        ]
        facts.append(f"mean cell of stages 1, 2, 3: {'; '.join(by_source)}")
    for one in found:
        if (one.settings.source, one.settings.stage) == (Source.TRAINED, 1):
            source = f"layer {one.main_source_of_last()} of {one.layers - 1}"
            facts.append(f"the last layer of stage 1 draws most from {source}")
    return facts


def gradient_facts(found: Sequence[RecordedRun]) -> list[str]:
    """Return in words what Figure 6 shows, if both its networks are there."""
    runs = {one.label: one for one in found}
    if not {"original", "DIANet"} <= runs.keys():
        return []
    dianet, original = runs["DIANet"], runs["original"]
    facts = []
    for index, moment in enumerate(("at initialisation", "at the last record")):
        ours = dianet.records[dianet.moments[index]]
        theirs = original.records[original.moments[index]]
        gains = {
            label: gain
            for label, gain in gradient_gains(ours, theirs).items()
            if math.isfinite(gain)
        }
        ratios = [f"{label} {10**gain:.2g}" for label, gain in gains.items()]
        if gains.keys() < RATIOS.keys():
            ratios.append("the others vanished or are not finite")
        facts.append(f"{moment}: {'; '.join(ratios)}")
    return facts
