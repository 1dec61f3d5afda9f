"""Verdicts on claims that compare no paired seeds: trainings that diverge or not, and counts.

That a network diverges is supported if all its runs did, and refuted if all of them trained; in
between it is undecided. That a network trains is supported if all its runs did, and refuted if none
did. To train means more than a finite loss: the last epoch's test accuracy is above guessing by
`ABOVE_GUESSING`. A run that is finite and no better than guessing neither diverged nor trained.
At least three seeds of a network are needed for a decision, and a seed with which the demo's
learning rate was chosen is not counted.

Counts are exact: a claim on them holds or does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dia_repro.claims.rules import LEAST_SEEDS, NO_RESULT, plural
from dia_repro.claims.statistics import share_interval
from dia_repro.claims.verdicts import Evidence, Judgement, Verdict
from dia_repro.results.queries import RunSummary

ABOVE_GUESSING = 10.0  # percentage points of test accuracy


@dataclass(frozen=True)
class Outcomes:
    """Outcomes of one network's runs.

    Attributes:
        diverged: number of diverged runs.
        guessing: number of runs that finished, no better than guessing.
        done: number of these runs and of those that trained.
        note: remark for the reader, or "".
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
        """Number of runs that finished, better than guessing."""
        return self.done - self.diverged - self.guessing

    @property
    def all_train(self) -> bool:
        """Whether all runs trained, and they are enough."""
        return self.trained == self.done >= LEAST_SEEDS


def judge_divergences(cells: Sequence[Outcomes], *, claimed: bool) -> Judgement:
    """Judge whether each network diverges, or each trains.

    Args:
        claimed: True for a claim of divergence, False for a claim of training.
    """
    evidence = tuple(_evidence(cell, claimed) for cell in cells)
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
    as_claimed, said = (cell.diverged, "diverged") if claimed else (cell.trained, "trained")
    if cell.guessing and not as_claimed:
        seeds = f"{cell.guessing} of {cell.done} seeds"
        return f"{cell.compared} neither diverged nor trained with {seeds}"
    seeds = f"{as_claimed} of {cell.done} seeds"
    return f"it depends on the seed: {cell.compared} {said} with {seeds}"


def judge_trains_too(pairs: Sequence[tuple[Outcomes, Outcomes]]) -> Judgement:
    """Judge whether the first network trains in each comparison whose second network trains.

    The second one trains if at least `LEAST_SEEDS` runs, and all of them, trained.
    """
    where = [(first, second) for first, second in pairs if second.all_train]
    if where:
        judged = judge_divergences([first for first, _ in where], claimed=False)
        known = ", ".join(second.compared for _, second in where)
        return replace(judged, reason=f"{judged.reason}; compared where all seeds train: {known}")
    evidence = tuple(_evidence(first, False) for first, _ in pairs)
    main = next((index for index, (first, _) in enumerate(pairs) if first.done), None)
    if main is None:
        return Judgement(Verdict.NOT_RUN, evidence, None, NO_RESULT)
    reason = f"nowhere {LEAST_SEEDS} seeds of what it is compared with all train"
    return Judgement(Verdict.UNDECIDED, evidence, main, reason)


def _evidence(cell: Outcomes, claimed: bool) -> Evidence:
    interval = share_interval(cell.diverged, cell.done)
    low, high = (100 * interval[0], 100 * interval[1]) if interval else (None, None)
    # A run that only guesses has not diverged, but it is no sign that the network trains either.
    against = cell.trained if claimed else cell.diverged + cell.guessing
    as_claimed = cell.diverged if claimed else cell.trained
    all_alike = bool(cell.done) and cell.done in (as_claimed, against)
    guessing = f"{plural(cell.guessing, 'run')} no better than guessing" if cell.guessing else ""
    return Evidence(
        compared=cell.compared,
        effect=100 * cell.diverged / cell.done if cell.done else None,
        unit="% diverged",
        low=low,
        high=high,
        n=cell.done,
        in_favour=as_claimed > 0 if all_alike else None,
        runs=cell.runs,
        note="; ".join(filter(None, (guessing, cell.note))),
    )


def judge_counts(counts: Sequence[Evidence], reason: str) -> Judgement:
    """Judge whether all counts are as claimed.

    Args:
        counts: each is as claimed if it is in favour.
        reason: reason for the verdict if all are.
    """
    wrong = [index for index, count in enumerate(counts) if not count.in_favour]
    if wrong:
        otherwise = f"{counts[wrong[0]].compared} counts otherwise"
        return Judgement(Verdict.REFUTED, tuple(counts), wrong[0], otherwise)
    return Judgement(Verdict.SUPPORTED, tuple(counts), len(counts) - 1, reason)
