"""From paired seeds to a verdict: the rules, apart from where the figures come from.

A claim that one network is the better in each of several comparisons is

- supported if in every comparison the interval lies above 0 and p ≤ 0.05 after Holm,
- refuted if in some comparison the interval lies below 0 and p ≤ 0.05 after Holm,
- undecided otherwise, and always with fewer seeds than the sign-flip test can decide with,
- not run if no comparison has a seed that both networks were trained with.

A run that diverged has no accuracy: its seed makes no pair. So that nothing is won by leaving
such seeds out, a network of which any run diverged cannot be the better one.

Two networks are about equal if the interval lies within the margin, and p ≤ 0.05 (two one-sided
sign-flip tests against the margin, the larger p); they are not if it lies beyond.
"""

from __future__ import annotations

import statistics as numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dia_repro.claims.statistics import (
    LEVEL,
    bootstrap_interval,
    holm,
    least_pairs,
    pairs_needed,
    sign_flip_p,
)
from dia_repro.claims.verdicts import Evidence, Verdict
from dia_repro.results.queries import RunSummary

NO_RESULT = "no run of its networks has a result"
NO_PAIR = "some of its networks are trained, but no two of a comparison with the same seed"


@dataclass(frozen=True)
class Row:
    """A comparison with its paired seeds.

    Attributes:
        differences: by seed; above 0 where the first has what the claim says of it.
        begun: whether either network has a result.
        diverged: runs of the first and of the second that did.
        note: what else must be known.
    """

    compared: str
    unit: str
    differences: Mapping[int, float]
    begun: bool
    runs: tuple[RunSummary, ...] = ()
    diverged: tuple[int, int] = (0, 0)
    note: str = ""

    @property
    def values(self) -> list[float]:
        """The differences in the order of seeds."""
        return [self.differences[seed] for seed in sorted(self.differences)]


@dataclass(frozen=True)
class Judgement:
    """What follows from the evidence; see `verdicts.ClaimVerdict`."""

    verdict: Verdict
    evidence: tuple[Evidence, ...]
    main: int | None
    reason: str
    more_seeds: int | None = None


@dataclass(frozen=True)
class _Measured:
    """A row with its statistics; p is of what the evidence says."""

    row: Row
    effect: float | None
    interval: tuple[float, float] | None
    p_for: float | None = None
    p_against: float | None = None
    supports: bool = False
    refutes: bool = False
    needed: int | None = None

    @property
    def weakness(self) -> tuple[float, float]:
        """Larger for a row that speaks less for the claim."""
        return (1.0 if self.p_for is None else self.p_for, -(self.effect or 0.0))


def judge_order(rows: Sequence[Row]) -> Judgement:
    """Whether in each row the first is the better one."""
    return _judge(rows, _order, "clear of 0", lambda effect: effect > 0)


def judge_equal(rows: Sequence[Row], margin: float) -> Judgement:
    """Whether in each row both differ by less than the margin, in the rows' unit."""

    def measure(row: Row, family: int) -> _Measured:
        return _equal(row, family, margin)

    clear = f"clear of the margin of {margin:g} {rows[0].unit}"
    return _judge(rows, measure, clear, lambda effect: abs(effect) < margin)


def _order(row: Row, family: int) -> _Measured:
    values = row.values
    if not values:
        return _Measured(row, None, None)
    effect, interval = numbers.fmean(values), bootstrap_interval(values)
    if interval is None:
        return _Measured(row, effect, None)
    p = sign_flip_p(values)  # which too few pairs never bring down to the level
    return _Measured(
        row,
        effect,
        interval,
        # The two-sided p belongs to the side that the effect is on.
        p_for=p if effect > 0 else 1.0,
        p_against=p if effect < 0 else 1.0,
        supports=interval[0] > 0 and not row.diverged[0],
        refutes=interval[1] < 0 and not row.diverged[1],
        needed=pairs_needed(effect, numbers.stdev(values), family),
    )


def _equal(row: Row, family: int, margin: float) -> _Measured:
    values = row.values
    if not values:
        return _Measured(row, None, None)
    effect, interval = numbers.fmean(values), bootstrap_interval(values)
    if interval is None:
        return _Measured(row, effect, None)
    inside = [[value + margin for value in values], [margin - value for value in values]]
    beyond = [abs(effect) / effect * value - margin if effect else 0.0 for value in values]
    enough, unspoilt = len(values) >= least_pairs(family), not any(row.diverged)
    return _Measured(
        row,
        effect,
        interval,
        p_for=max(sign_flip_p(side, one_sided=True) for side in inside),
        p_against=sign_flip_p(beyond) if abs(effect) > margin else 1.0,
        supports=enough and unspoilt and -margin < interval[0] and interval[1] < margin,
        refutes=enough and unspoilt and (interval[0] > margin or interval[1] < -margin),
        needed=pairs_needed(margin - abs(effect), numbers.stdev(values), family),
    )


def _judge(
    rows: Sequence[Row],
    measure: Callable[[Row, int], _Measured],
    clear: str,
    in_favour: Callable[[float], bool],
) -> Judgement:
    family = len(rows)
    measured = [measure(row, family) for row in rows]
    for_, against = (
        holm([getattr(one, name) for one in measured], family) for name in ("p_for", "p_against")
    )
    good = [m.supports and small(p) for m, p in zip(measured, for_, strict=True)]
    bad = [m.refutes and small(p) for m, p in zip(measured, against, strict=True)]
    evidence = tuple(
        _evidence(one, in_favour, min(p, q) if p is not None and q is not None else None)
        for one, p, q in zip(measured, for_, against, strict=True)
    )
    seen = [index for index, one in enumerate(measured) if one.effect is not None]
    begun = next((index for index, row in enumerate(rows) if row.begun), None)
    main = max(seen, key=lambda index: (bad[index], measured[index].weakness), default=begun)
    if any(bad) and main is not None:
        reason = f"{rows[main].compared} is {clear} on the other side"
        return Judgement(Verdict.REFUTED, evidence, main, reason)
    if all(good):
        reason = f"{_every(family)} {clear} (interval, and p ≤ {LEVEL:g} after Holm)"
        return Judgement(Verdict.SUPPORTED, evidence, main, reason)
    if not any(row.differences or any(row.diverged) for row in rows):
        reason = NO_PAIR if any(row.begun for row in rows) else NO_RESULT
        return Judgement(Verdict.NOT_RUN, evidence, None, reason)
    open_ = [one for one, decided in zip(measured, good, strict=True) if not decided]
    reason = _why_undecided(open_, family, clear)
    return Judgement(Verdict.UNDECIDED, evidence, main, reason, _more_seeds(open_))


def plural(count: int, thing: str) -> str:
    """E.g. "1 run", "2 runs"."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def small(p: float | None) -> bool:
    """Whether a p, after Holm, reaches the level."""
    return p is not None and p <= LEVEL


def _every(count: int) -> str:
    return "the difference is" if count == 1 else f"all {count} differences are"


def _evidence(one: _Measured, in_favour: Callable[[float], bool], p: float | None) -> Evidence:
    row, (low, high) = one.row, one.interval or (None, None)
    notes = [row.note] if row.note else []
    for count, which in zip(row.diverged, ("first", "second"), strict=True):
        notes += [f"{plural(count, 'run')} of the {which} diverged"] if count else []
    return Evidence(
        compared=row.compared,
        effect=one.effect,
        unit=row.unit,
        low=low,
        high=high,
        n=len(row.differences),
        p=p,
        in_favour=None if one.effect is None else in_favour(one.effect),
        runs=tuple(run.id for run in row.runs),
        uids=tuple(run.uid for run in row.runs),
        note="; ".join(notes),
    )


def _more_seeds(open_: Sequence[_Measured]) -> int | None:
    """The most that any row needs; None where that of one cannot be told."""
    more = [
        max(1, one.needed - len(one.row.differences))
        for one in open_
        if one.needed is not None and not any(one.row.diverged)
    ]
    return max(more) if len(more) == len(open_) else None


def _why_undecided(open_: Sequence[_Measured], family: int, clear: str) -> str:
    """One sentence, what weighs most first."""
    least = least_pairs(family)
    diverged = sum(any(one.row.diverged) for one in open_)
    sound = [len(one.row.differences) for one in open_ if not any(one.row.diverged)]
    none, few = sound.count(0), [pairs for pairs in sound if 0 < pairs < least]
    parts = []
    if none:
        has = "has" if none == 1 else "have"
        parts.append(f"{_some(none, family)} {has} no seed trained on both sides")
    if diverged:
        parts.append(f"in {_some(diverged, family)} runs diverged, which have no accuracy")
    if few:
        seeds = f"{min(few)} seed{' decides' if min(few) == 1 else 's decide'} nothing"
        parts.append(f"{seeds}: p ≤ {LEVEL:g} takes {least} at least")
    unclear = len(sound) - none - len(few)
    if unclear:
        parts.append(f"{_some(unclear, family)} {'is' if unclear == 1 else 'are'} not {clear}")
    return "; ".join(parts)


def _some(count: int, family: int) -> str:
    if family == 1:
        return "the comparison"
    return f"all {family} comparisons" if count == family else f"{count} of {family} comparisons"
