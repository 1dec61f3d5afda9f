"""Verdicts on claims that compare no paired seeds: trainings that diverge or not, and counts.

That a network diverges is supported if all its runs did, and refuted if all of them trained; in
between it is undecided. That a network trains is supported if all its runs did, and refuted if none
did. To train asks for more than a finite loss: the last epoch's test accuracy is above guessing by
`ABOVE_GUESSING`. A run that is finite and no better than guessing neither diverged nor trained.
Three seeds of a network are the least that decide, and a seed with which a demonstration's learning
rate was chosen is not counted.

Counts are exact: a claim on them holds or does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dia_repro.claims.rules import LEAST_SEEDS, NO_RESULT, Judgement, plural
from dia_repro.claims.statistics import share_interval
from dia_repro.claims.verdicts import Evidence, Verdict
from dia_repro.results.queries import RunSummary

ABOVE_GUESSING = 10.0  # percentage points of test accuracy


@dataclass(frozen=True)
class Outcomes:
    """What became of one network's runs.

    Attributes:
        diverged: runs whose loss was not finite any more.
        guessing: runs that finished, no better than guessing.
        done: those, and the runs that trained.
        note: what else must be known, "" if nothing.
        excluded: whether there are runs that are not counted.
    """

    compared: str
    diverged: int
    guessing: int
    done: int
    runs: tuple[RunSummary, ...] = ()
    note: str = ""
    excluded: bool = False

    @property
    def trained(self) -> int:
        """Runs that finished, better than guessing."""
        return self.done - self.diverged - self.guessing

    def as_claimed(self, *, diverges: bool) -> int:
        """Return how many runs did what is claimed."""
        return self.diverged if diverges else self.trained

    def against(self, *, diverges: bool) -> int:
        """Return how many runs speak against the claim.

        A run that only guesses has not diverged, but it is no sign that the network trains either.
        """
        return self.trained if diverges else self.diverged + self.guessing


@dataclass(frozen=True)
class Counted:
    """A count, or the difference of two, and whether it is as claimed."""

    compared: str
    effect: float
    unit: str
    holds: bool
    note: str = ""


def judge_divergences(cells: Sequence[Outcomes], *, claimed: bool) -> Judgement:
    """Judge whether each network diverges, or each trains.

    Args:
        claimed: True if the claim is that it diverges, False if it is that it trains.
    """
    evidence = tuple(_outcome_evidence(cell, claimed) for cell in cells)
    said = "diverged" if claimed else "trained"
    done = [index for index, cell in enumerate(cells) if cell.done]
    if not done:
        noted = next((cell.note for cell in cells if cell.excluded), "")
        return Judgement(Verdict.NOT_RUN, evidence, None, noted or NO_RESULT)
    enough = [index for index in done if cells[index].done >= LEAST_SEEDS]
    against = [index for index in enough if evidence[index].in_favour is False]
    if against:
        reason = f"{cells[against[0]].compared} {said} with none of {cells[against[0]].done} seeds"
        return Judgement(Verdict.REFUTED, evidence, against[0], reason)
    mixed = [index for index in done if evidence[index].in_favour is None]
    if mixed:
        reason = _why_mixed(cells[mixed[0]], claimed)
        return Judgement(Verdict.UNDECIDED, evidence, mixed[0], reason)
    main = min(done, key=lambda index: (evidence[index].in_favour is True, cells[index].done))
    if len(enough) == len(cells):
        reason = f"every run of {plural(len(cells), 'network')} {said}"
        return Judgement(Verdict.SUPPORTED, evidence, main, reason)
    parts = []
    if len(done) < len(cells):
        parts.append(f"{len(cells) - len(done)} of {plural(len(cells), 'network')} not trained yet")
    if few := len(done) - len(enough):
        parts.append(f"{plural(few, 'network')} with fewer than {LEAST_SEEDS} seeds")
    return Judgement(Verdict.UNDECIDED, evidence, main, "; ".join(parts))


def _why_mixed(cell: Outcomes, claimed: bool) -> str:
    as_claimed = cell.as_claimed(diverges=claimed)
    if cell.guessing and not as_claimed:
        seeds = f"{cell.guessing} of {cell.done} seeds"
        return f"{cell.compared} neither diverged nor trained with {seeds}"
    said = "diverged" if claimed else "trained"
    seeds = f"{as_claimed} of {cell.done} seeds"
    return f"it depends on the seed: {cell.compared} {said} with {seeds}"


def judge_trains_too(pairs: Sequence[tuple[Outcomes, Outcomes]]) -> Judgement:
    """Judge whether the first network trains in each comparison whose second one trains.

    The second does if every run of `LEAST_SEEDS` or more trained.
    """
    where = [
        (first, second)
        for first, second in pairs
        if second.as_claimed(diverges=False) == second.done >= LEAST_SEEDS
    ]
    if where:
        judged = judge_divergences([first for first, _ in where], claimed=False)
        known = ", ".join(second.compared for _, second in where)
        return replace(judged, reason=f"{judged.reason}; compared where all seeds train: {known}")
    evidence = tuple(_outcome_evidence(first, False) for first, _ in pairs)
    if not any(first.done for first, _ in pairs):
        return Judgement(Verdict.NOT_RUN, evidence, None, NO_RESULT)
    reason = f"nowhere {LEAST_SEEDS} seeds of what it is compared with all train"
    main = next(index for index, (first, _) in enumerate(pairs) if first.done)
    return Judgement(Verdict.UNDECIDED, evidence, main, reason)


def _outcome_evidence(cell: Outcomes, claimed: bool) -> Evidence:
    interval = share_interval(cell.diverged, cell.done)
    low, high = (100 * interval[0], 100 * interval[1]) if interval else (None, None)
    as_claimed, against = cell.as_claimed(diverges=claimed), cell.against(diverges=claimed)
    all_alike = bool(cell.done) and cell.done in (as_claimed, against)
    notes = [f"{plural(cell.guessing, 'run')} no better than guessing"] if cell.guessing else []
    return Evidence(
        compared=cell.compared,
        effect=100 * cell.diverged / cell.done if cell.done else None,
        unit="% diverged",
        low=low,
        high=high,
        n=cell.done,
        in_favour=as_claimed > 0 if all_alike else None,
        runs=tuple(run.id for run in cell.runs),
        uids=tuple(run.uid for run in cell.runs),
        note="; ".join([*notes, *([cell.note] if cell.note else [])]),
    )


def judge_counts(counts: Sequence[Counted], reason: str) -> Judgement:
    """Judge whether all counts are as claimed.

    Args:
        reason: what is said where they are.
    """
    evidence = tuple(
        Evidence(one.compared, one.effect, one.unit, 0, one.holds, note=one.note) for one in counts
    )
    wrong = [index for index, one in enumerate(counts) if not one.holds]
    if wrong:
        return Judgement(
            Verdict.REFUTED, evidence, wrong[0], f"{counts[wrong[0]].compared} counts otherwise"
        )
    return Judgement(Verdict.SUPPORTED, evidence, len(counts) - 1, reason)
