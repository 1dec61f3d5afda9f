"""Verdicts on claims that compare no paired seeds: trainings that diverge or not, and counts.

A network diverges if more than half of its trainings do, over seeds, and it trains if more than
half train. Each share is tested against one half by the exact binomial test. As with paired seeds,
a claim on k networks is supported if each share is on its side with p ≤ 0.05, and refuted if some
share is on the other side with p ≤ 0.05 after Holm. So six seeds decide only if all agree. A seed
with which the demo's learning rate was chosen is not counted. To train means more than a finite
loss: the last epoch's test accuracy is above guessing by `ABOVE_GUESSING`. A run that is finite and
below that neither diverged nor trained, and speaks against both. Counts are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dia_repro.claims.rules import NO_RESULT, against, plural, small, weakness
from dia_repro.claims.statistics import LEAST_FOR_FLIPS, LEVEL, share_interval, share_p
from dia_repro.claims.verdicts import Evidence, Judgement, Verdict
from dia_repro.results.queries import RunSummary

ABOVE_GUESSING = 10.0  # percentage points of test accuracy
BINOMIAL = "exact binomial"


@dataclass(frozen=True)
class Outcomes:
    """Outcomes of one network's runs.

    Attributes:
        diverged: number of diverged runs.
        guessing: number of runs that finished, less than `ABOVE_GUESSING` above guessing.
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
    def trains(self) -> bool:
        """True if more than half of its trainings train, at the level."""
        evidence = _evidence(self, claimed=False)
        return bool(evidence.in_favour) and small(evidence.p)


def judge_divergences(cells: Sequence[Outcomes], *, claimed: bool) -> Judgement:
    """Judge whether each network diverges, or each trains.

    Args:
        claimed: True for a claim of divergence, False for a claim of training.
    """
    evidence = [_evidence(cell, claimed) for cell in cells]
    if not any(cell.done for cell in cells):
        noted = next((cell.note for cell in cells if cell.excluded), "")
        return Judgement(Verdict.NOT_RUN, tuple(evidence), None, noted or NO_RESULT)
    corrected, refuting = against(evidence)
    if len(cells) > 1:
        evidence = [
            replace(found, p_corrected=None if found.in_favour or found.p is None else p)
            for found, p in zip(evidence, corrected, strict=True)
        ]
    done = [index for index, cell in enumerate(cells) if cell.done]
    main = max(refuting or done, key=lambda index: weakness(evidence[index]))
    said = "diverged" if claimed else "trained"
    if refuting:
        after = " after Holm" if len(cells) > 1 else ""
        reason = f"{_seeds(cells[main], evidence[main])} (p ≤ {LEVEL:g}{after})"
        return Judgement(Verdict.REFUTED, tuple(evidence), main, reason)
    if all(found.in_favour and small(found.p) for found in evidence):
        each = "" if len(cells) == 1 else f" of each of {len(cells)} networks"
        reason = f"more than half of the trainings{each} {said} (p ≤ {LEVEL:g})"
        return Judgement(Verdict.SUPPORTED, tuple(evidence), main, reason)
    return Judgement(Verdict.UNDECIDED, tuple(evidence), main, _why_open(cells, evidence))


def _why_open(cells: Sequence[Outcomes], evidence: Sequence[Evidence]) -> str:
    """Return one sentence that begins with the most important reason."""
    pairs = [*zip(cells, evidence, strict=True)]
    pairs.sort(key=lambda pair: weakness(pair[1]), reverse=True)  # the one that is shown first
    enough = [(cell, found) for cell, found in pairs if cell.done >= LEAST_FOR_FLIPS]
    neither = [pair for pair in enough if pair[1].in_favour is None and small(pair[1].p)]
    open_cells = [pair for pair in enough if not small(pair[1].p)]
    contrary = [pair for pair in enough if pair[1].in_favour is False and small(pair[1].p)]
    absent = sum(not cell.done for cell in cells)
    few = len(cells) - absent - len(enough)
    parts = [_seeds(*neither[0])] if neither else []
    if open_cells:
        parts.append(f"it depends on the seed: {_seeds(*open_cells[0])}")
    parts += [f"{_seeds(*contrary[0])}, but not after Holm"] if contrary else []
    if absent:
        parts.append(f"{absent} of {plural(len(cells), 'network')} not trained yet")
    if few:
        networks = plural(few, "network")
        parts.append(f"{networks} with fewer than {LEAST_FOR_FLIPS} seeds, which decide nothing")
    return "; ".join(parts)


def _seeds(cell: Outcomes, tested: Evidence) -> str:
    """Return the share that was tested, e.g. "ResNet83: SENet diverged with 5 of 6 seeds"."""
    trained = tested.unit == "% trained"
    count, said = (cell.trained, "trained") if trained else (cell.diverged, "diverged")
    if 2 * cell.guessing > cell.done:
        count, said = cell.guessing, "neither diverged nor trained"
    return f"{cell.compared} {said} with {count} of {plural(cell.done, 'seed')}"


def judge_trains_too(pairs: Sequence[tuple[Outcomes, Outcomes]]) -> Judgement:
    """Judge whether the first network trains in each comparison whose second one is shown to."""
    where = [(first, second) for first, second in pairs if second.trains]
    if where:
        judged = judge_divergences([first for first, _ in where], claimed=False)
        known = ", ".join(second.compared for _, second in where)
        return replace(judged, reason=f"{judged.reason}; compared where shown to train: {known}")
    evidence = tuple(_evidence(first, claimed=False) for first, _ in pairs)
    main = next((index for index, (first, _) in enumerate(pairs) if first.done), None)
    if main is None:
        return Judgement(Verdict.NOT_RUN, evidence, None, NO_RESULT)
    reason = f"what it is compared with is nowhere shown to train (p ≤ {LEVEL:g})"
    return Judgement(Verdict.UNDECIDED, evidence, main, reason)


def _evidence(cell: Outcomes, claimed: bool) -> Evidence:
    """Return the share of runs that did as claimed, tested against one half.

    A run that only guesses has not diverged, but it is no sign that the network trains. What speaks
    against a divergence is therefore the share that trains, where runs guess.
    """
    share, unit = (cell.diverged, "% diverged") if claimed else (cell.trained, "% trained")
    in_favour = None if 2 * share == cell.done else 2 * share > cell.done
    if claimed and cell.guessing and not in_favour:
        share, unit = cell.trained, "% trained"
        in_favour = False if 2 * share > cell.done else None
    interval = share_interval(share, cell.done)
    low, high = (100 * interval[0], 100 * interval[1]) if interval else (None, None)
    few = f"{plural(cell.guessing, 'run')} less than {ABOVE_GUESSING:g} points above guessing"
    return Evidence(
        compared=cell.compared,
        effect=100 * share / cell.done if cell.done else None,
        unit=unit,
        low=low,
        high=high,
        n=cell.done,
        p=share_p(share, cell.done),
        test=BINOMIAL if interval else "",
        in_favour=in_favour,
        runs=cell.runs,
        note="; ".join(filter(None, (few if cell.guessing else "", cell.note))),
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
    weakest = min(range(len(counts)), key=lambda index: abs(counts[index].effect or 0.0))
    return Judgement(Verdict.SUPPORTED, tuple(counts), weakest, reason)
