"""Verdicts on claims that order no pairs: accuracy that stays, trainings that diverge, counts.

Accuracy is steady where the means of several networks lie no farther apart than single trainings
of one network do that differ in the seed alone: 2.06 standard deviations for four networks, the
mean range of four normal numbers. That is supported if the interval of range minus allowance lies
below 0, refuted if it lies above and exchanging the networks within each seed gives p ≤ 0.05.

That a network diverges is supported if all its runs did and refuted if none did; where it depends
on the seed it is undecided. One run counts: what is claimed is that it happens, not how much.

Counts are exact: a claim on them holds or does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dia_repro.claims.rules import NO_RESULT, Judgement, plural, small
from dia_repro.claims.statistics import (
    MOST_SEEDS,
    Steadiness,
    least_pairs,
    share_interval,
    steadiness,
)
from dia_repro.claims.verdicts import Evidence, Verdict
from dia_repro.results.queries import RunSummary

NO_COMMON_SEED = "some of its networks are trained, but not all of them with the same seed"


@dataclass(frozen=True)
class Group:
    """Networks that are trained with the same seeds.

    Attributes:
        values: (seeds, networks), of the seeds that all of them have.
        begun: whether any of them has a result.
        diverged: runs of any of them that did.
    """

    values: NDArray[np.float64]
    begun: bool
    diverged: int = 0
    runs: tuple[RunSummary, ...] = ()


@dataclass(frozen=True)
class Outcomes:
    """What became of one network's runs.

    Attributes:
        diverged: runs whose loss was not finite any more.
        done: those, and the finished ones.
    """

    compared: str
    diverged: int
    done: int
    runs: tuple[RunSummary, ...] = ()


@dataclass(frozen=True)
class Counted:
    """A count, or the difference of two, and whether it is as claimed."""

    compared: str
    effect: float
    unit: str
    holds: bool
    note: str = ""


def judge_steady(group: Group, compared: str, unit: str) -> Judgement:
    """Whether networks differ less than seeds do."""
    if not (len(group.values) or group.diverged):
        reason = NO_COMMON_SEED if group.begun else NO_RESULT
        return Judgement(Verdict.NOT_RUN, (), None, reason)
    seeds, least = len(group.values), least_pairs(1)
    found = steadiness(group.values) if seeds > 1 else None
    evidence = (_steady_evidence(group, found, compared, unit),)
    if group.diverged:
        reason = f"{plural(group.diverged, 'run')} diverged, which have no accuracy"
    elif found is None:
        reason = f"1 seed decides nothing: {least} are needed at least"
    elif seeds < least:
        reason = f"{seeds} seeds decide nothing: {least} are needed at least"
        return Judgement(Verdict.UNDECIDED, evidence, 0, reason, _more_seeds(found, seeds))
    elif found.high < 0:
        reason = "the means lie nearer together than trainings that differ in the seed alone"
        return Judgement(Verdict.SUPPORTED, evidence, 0, reason)
    elif found.low > 0 and small(found.p):
        reason = "the means lie farther apart than trainings that differ in the seed alone"
        return Judgement(Verdict.REFUTED, evidence, 0, reason)
    else:
        reason = "the range of the means is not clear of what seeds alone do"
        return Judgement(Verdict.UNDECIDED, evidence, 0, reason, _more_seeds(found, seeds))
    return Judgement(Verdict.UNDECIDED, evidence, 0, reason)


def _steady_evidence(group: Group, found: Steadiness | None, compared: str, unit: str) -> Evidence:
    return Evidence(
        compared=compared,
        effect=found.excess if found else None,
        unit=unit,
        low=found.low if found else None,
        high=found.high if found else None,
        n=len(group.values),
        p=found.p if found else None,
        in_favour=found.excess < 0 if found else None,
        runs=tuple(run.id for run in group.runs),
        uids=tuple(run.uid for run in group.runs),
        note=f"range {found.means_range:.2f}, by seeds alone {found.allowed:.2f}" if found else "",
    )


def _more_seeds(found: Steadiness, seeds: int) -> int | None:
    """Until the interval is clear of 0, if it narrows with the square root of the seeds."""
    if not found.excess:
        return None
    reach = found.high - found.excess if found.excess < 0 else found.excess - found.low
    needed = max(least_pairs(1), math.ceil(seeds * (reach / found.excess) ** 2))
    return max(1, needed - seeds) if needed <= MOST_SEEDS else None


def judge_divergences(cells: Sequence[Outcomes], *, claimed: bool) -> Judgement:
    """Whether each network diverges, or each does not.

    Args:
        claimed: what the paper says that it does.
    """
    evidence = tuple(_outcome_evidence(cell, claimed) for cell in cells)
    done = [index for index, cell in enumerate(cells) if cell.done]
    if not done:
        return Judgement(Verdict.NOT_RUN, evidence, None, NO_RESULT)
    against = [index for index in done if evidence[index].in_favour is False]
    mixed = [index for index in done if evidence[index].in_favour is None]
    if against:
        said = "trained to the end" if claimed else "diverged"
        reason = f"{cells[against[0]].compared} {said} with every seed tried"
        return Judgement(Verdict.REFUTED, evidence, against[0], reason)
    if mixed:
        cell = cells[mixed[0]]
        reason = f"it depends on the seed: {cell.compared} diverged {cell.diverged} of {cell.done}"
        return Judgement(Verdict.UNDECIDED, evidence, mixed[0], f"{reason} times")
    main = min(done, key=lambda index: cells[index].done)
    if len(done) < len(cells):
        missing = len(cells) - len(done)
        reason = f"{missing} of {plural(len(cells), 'network')} not trained yet, the others as said"
        return Judgement(Verdict.UNDECIDED, evidence, main, reason)
    said = "diverged" if claimed else "trained to the end"
    reason = f"every run of {plural(len(cells), 'network')} {said}"
    return Judgement(Verdict.SUPPORTED, evidence, main, reason)


def _outcome_evidence(cell: Outcomes, claimed: bool) -> Evidence:
    interval = share_interval(cell.diverged, cell.done)
    low, high = (100 * interval[0], 100 * interval[1]) if interval else (None, None)
    same = cell.diverged in (0, cell.done) and cell.done > 0
    return Evidence(
        compared=cell.compared,
        effect=100 * cell.diverged / cell.done if cell.done else None,
        unit="% diverged",
        low=low,
        high=high,
        n=cell.done,
        p=None,
        in_favour=(cell.diverged > 0) is claimed if same else None,
        runs=tuple(run.id for run in cell.runs),
        uids=tuple(run.uid for run in cell.runs),
    )


def judge_counts(counts: Sequence[Counted], reason: str) -> Judgement:
    """Whether all counts are as claimed.

    Args:
        reason: what is said where they are.
    """
    evidence = tuple(
        Evidence(one.compared, one.effect, one.unit, None, None, 0, None, one.holds, note=one.note)
        for one in counts
    )
    wrong = [index for index, one in enumerate(counts) if not one.holds]
    if wrong:
        return Judgement(
            Verdict.REFUTED, evidence, wrong[0], f"{counts[wrong[0]].compared} counts otherwise"
        )
    return Judgement(Verdict.SUPPORTED, evidence, len(counts) - 1, reason)
