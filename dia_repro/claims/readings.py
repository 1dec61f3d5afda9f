"""Values read from Figures 5 and 6, on which the claims on them rest.

A value belongs to one trained network or pair; it is above 0 where the network has what the paper
says.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import Any

from dia_repro.analysis.gini import Integration
from dia_repro.analysis.gradients import RecordedRun
from dia_repro.analysis.stored import Kept
from dia_repro.claims.rules import LEAST_SEEDS
from dia_repro.claims.statistics import estimate
from dia_repro.results.parts import Source

# A source before the middle of the layers before it is an early one.
EARLY = 0.5
STAGES = (1, 2, 3)
OTHERS = {"stage 3 − stage 1": 1, "stage 3 − stage 2": 2}
# Stage 3's heatmap is the densest where nothing is learned, too: what training adds counts.
CONTROLS = {"trained − before training": Source.INITIAL, "trained − shuffled": Source.SHUFFLED}
AGAINST_CONTROLS = tuple(f"{gap}, {control}" for control in CONTROLS for gap in OTHERS)
DENSITIES = (*OTHERS, *AGAINST_CONTROLS)
MIDDLE = "position of the middle layer − that of the last layer's main source"
DIVIDED = "DIANet ÷ original"
FIGURE6_RATIO = ("DIANet", "original")  # of whose gradients
RATIOS = {
    f"stage {stage}: {value}, {DIVIDED}": (stage, value)
    for stage in STAGES
    for value in ("mean", "variance")
}


def density_gains(kept: Kept) -> dict[str, float]:
    """Return stage 3's density minus that of other stages: trained, and minus its controls.

    Density is a heatmap's mean cell, averaged over the forests' seeds. Gains without an analysis
    are left out.
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


def _gaps(kept: Kept, source: Source) -> dict[int, dict[str, float]]:
    """Return stage 3's density minus that of other stages, by seed of the forests.

    A seed also chooses the images, so only stages with the same seed are compared.
    """
    density: dict[int, dict[int, float]] = defaultdict(dict)
    for stage in STAGES:
        for analysis in kept.get((source, stage), ()):
            density[analysis.settings.seed][stage] = analysis.density()
    return {
        seed: {gap: of[3] - of[other] for gap, other in OTHERS.items()}
        for seed, of in density.items()
        if len(of) == len(STAGES) and all(map(math.isfinite, of.values()))
    }


def earliness(kept: Kept) -> dict[str, float]:
    """Return how far before the middle stage 1's last layer has its main source, in % of layers.

    The position of a layer is the middle of its share of the layers: 50 % for the ninth of 17.
    Positions are averaged over the forests' seeds, those left out whose last layer has no source.
    """
    positions = [
        (source - 0.5) / (analysis.layers - 1)
        for analysis in kept.get((Source.TRAINED, 1), ())
        if (source := analysis.main_source_of_last()) is not None
    ]
    return {MIDDLE: 100 * (EARLY - fmean(positions))} if positions else {}


def gradient_gains(
    dianet: Sequence[Mapping[str, Any]], original: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Return DIANet's mean and variance over the original's, as powers of ten, for each stage.

    Where a value is 0 or not finite there is no ratio: -inf if it is DIANet's, inf if it is the
    original's, nan if both are.
    """
    return {
        label: _log_ratio(_value(dianet[stage - 1], value), _value(original[stage - 1], value))
        for label, (stage, value) in RATIOS.items()
    }


def _value(record: Mapping[str, Any], value: str) -> float:
    """Return a record's value; inf where some elements are not finite, which it leaves out."""
    return math.inf if record.get("not_finite") else float(record[value])


def _log_ratio(ours: float, theirs: float) -> float:
    sound = tuple(0 < value < math.inf for value in (ours, theirs))
    if all(sound):
        return math.log10(ours / theirs)
    return math.nan if not any(sound) else math.inf if sound[0] else -math.inf


def initial_ratios(
    found: Mapping[str, Mapping[int, Sequence[Mapping[str, float]]]], original: str | None
) -> Iterator[dict[str, Any]]:
    """Yield a record for each stage and network: its gradients, and their ratios to the original's.

    A ratio is the geometric mean over seeds; it is missing where a seed's is 0 or not finite.

    Args:
        found: `analysis.initial_gradients.Moments` by network and seed.
        original: the network that the others are compared with; None compares none.
    """
    stages = min(len(moments) for of_seed in found.values() for moments in of_seed.values())
    for stage, (network, of_seed) in product(range(stages), found.items()):
        record: dict[str, Any] = {"stage": stage + 1, "network": network, "seeds": len(of_seed)}
        for value in ("mean", "variance"):
            own = {seed: moments[stage][value] for seed, moments in of_seed.items()}
            record[value] = fmean(own.values())
            ratio: tuple[float | str | None, ...] = (None,) * 5
            if original is not None and network != original:
                theirs = found[original]
                logs = [_log_ratio(own[seed], theirs[seed][stage][value]) for seed in sorted(own)]
                ratio = _over_seeds(logs)
            names = (f"{value}_{name}" for name in ("ratio", "low", "high", "p", "test"))
            record |= zip(names, ratio, strict=True)
        yield record


def _mean(logs: Sequence[float]) -> float:
    """Return the mean; nan where one is not finite."""
    return fmean(logs) if all(map(math.isfinite, logs)) else math.nan


def _over_seeds(logs: Sequence[float]) -> tuple[float | str | None, ...]:
    """Return the geometric mean of ratios, its interval, p and the test's name."""
    if not all(map(math.isfinite, logs)):
        return (None,) * 5
    if len(logs) < LEAST_SEEDS or (estimated := estimate(logs)) is None:
        return 10 ** fmean(logs), None, None, None, None
    ends = (10**end for end in (estimated.effect, estimated.low, estimated.high))
    return *ends, estimated.p, estimated.test.value


def integration_facts(found: Sequence[Integration]) -> list[str]:
    """Return sentences on one run's Figure 5 (section "Feature integration")."""
    analyses = {(done.settings.source, done.settings.stage): done for done in found}
    facts = []
    if all((Source.TRAINED, stage) in analyses for stage in STAGES):
        by_source = [
            f"{source} {', '.join(f'{analyses[source, stage].density():.3f}' for stage in STAGES)}"
            for source in Source
            if all((source, stage) in analyses for stage in STAGES)
        ]
        facts.append(f"mean cell of stages 1, 2, 3: {'; '.join(by_source)}")
    if first := analyses.get((Source.TRAINED, 1)):
        number = first.main_source_of_last()
        source = "none" if number is None else f"layer {number} of {first.layers - 1}"
        facts.append(f"the last layer of stage 1 draws most from {source}")
    return facts


def gradient_facts(found: Sequence[RecordedRun]) -> list[str]:
    """Return sentences on Figure 6, if both its networks are there: geometric means over runs."""
    dianet, original = ([run for run in found if run.label == name] for name in FIGURE6_RATIO)
    if not (dianet and original):
        return []
    over = f", over {len(dianet)} and {len(original)} runs" if len(dianet + original) > 2 else ""
    facts = []
    for index, when in enumerate(("at initialisation", "in the last epoch")):
        moment = f"{when}{over}"
        pairs = [
            gradient_gains(*(run.records[run.moments[index]] for run in both))
            for both in product(dianet, original)
        ]
        gains = {label: _mean([gain[label] for gain in pairs]) for label in RATIOS}
        ratios = [f"{label} {10**gain:.2g}" for label, gain in gains.items() if math.isfinite(gain)]
        if len(ratios) < len(RATIOS):
            ratios.append("the others vanished or are not finite")
        facts.append(f"{moment}: {'; '.join(ratios)}")
    return facts
