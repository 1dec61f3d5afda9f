"""From paired seeds to a verdict: the rules, apart from where the values come from.

A claim that one network is the better one in each of k comparisons is

- supported if in every comparison the difference is in favour and p ≤ 0.05. This is an
  intersection-union test: the claim is false as soon as one comparison fails, so each is tested at
  the full level, without correction.
- refuted if in some comparison the difference is on the other side and p ≤ 0.05 after Holm. "Some"
  gives chance k opportunities, so here the k tests share the level.
- undecided otherwise,
- not run if no comparison has a seed that both networks were trained with.

Two networks are about equal if the whole interval lies within the margin (two one-sided tests), and
are not if it lies beyond.

Three seeds are the least that decide. A run that diverged has no accuracy, so its seed makes no
pair. To keep this from helping a network, a network with a diverged run cannot be the better one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from dia_repro.claims.statistics import LEVEL, Estimate, Method, estimate, holm, with_test_images
from dia_repro.claims.verdicts import AGAINST_MARGIN, Evidence, Verdict
from dia_repro.results.queries import RunSummary

NO_RESULT = "no run of its networks has a result"
NO_PAIR = "some of its networks are trained, but no two of a comparison with the same seed"
LEAST_SEEDS = 3  # two have a single degree of freedom: their spread says next to nothing


@dataclass(frozen=True)
class Row:
    """A comparison with its paired seeds.

    Attributes:
        differences: by seed; above 0 where the first has what the claim says of it.
        begun: whether either network has a result.
        diverged: runs of the first and of the second that did.
        vanished: seeds whose difference is lost since a value of the first, or of the second, is 0.
        note: what else must be known.
        invalid: why no verdict may rest on it, "" if one may.
        step: smallest step of a difference (one test image, in points); 0 if there is none.
        accuracies: mean test accuracy of both over these seeds, %, if it is accuracies that differ.
        images: in the test set; 0 if it is not accuracies that differ.
    """

    compared: str
    unit: str
    differences: dict[int, float]
    begun: bool
    runs: tuple[RunSummary, ...] = ()
    diverged: tuple[int, int] = (0, 0)
    vanished: tuple[int, int] = (0, 0)
    note: str = ""
    invalid: str = ""
    step: float = 0.0
    accuracies: tuple[float, float] | None = None
    images: int = 0

    @property
    def values(self) -> list[float]:
        """The differences in the order of seeds."""
        return [self.differences[seed] for seed in sorted(self.differences)]

    @property
    def lost(self) -> tuple[int, int]:
        """Seeds without a difference because of the first, and because of the second."""
        (first, second), vanished = self.diverged, self.vanished
        return first + vanished[0], second + vanished[1]


@dataclass(frozen=True)
class Judgement:
    """What follows from the evidence; see `verdicts.ClaimVerdict`."""

    verdict: Verdict
    evidence: tuple[Evidence, ...]
    main: int | None
    reason: str


@dataclass(frozen=True)
class _Measured:
    """A row with its statistics.

    Attributes:
        in_favour: whether the effect is on the claim's side; None without an effect.
        found: None where nothing can be estimated.
        may_decide: whether its runs may decide for the side that the effect is on.
    """

    row: Row
    in_favour: bool | None = None
    found: Estimate | None = None
    may_decide: bool = False

    @property
    def p(self) -> float | None:
        """The p for what the row may decide; None where it may decide nothing."""
        return self.found.p if self.found and self.may_decide else None

    @property
    def supports(self) -> bool:
        """Whether the row alone speaks for the claim, at the level."""
        return bool(self.in_favour) and small(self.p)

    @property
    def weakness(self) -> tuple[int, float]:
        """Larger for a row that speaks less for the claim."""
        p = 1.0 if self.p is None else self.p
        if self.in_favour:
            return (0 if self.supports else 1, p)
        return (2, 1 - p)


def judge_order(rows: Sequence[Row]) -> Judgement:
    """Judge whether in each row the first is the better one."""
    return _judge([_order(row) for row in rows], "clear of 0")


def judge_equal(rows: Sequence[Row], margin: float) -> Judgement:
    """Judge whether in each row both differ by less than a margin, in the rows' unit.

    The margin is at least two steps: on a small test set fewer images are no difference.
    """
    margin = max(margin, *(2 * row.step for row in rows))
    return _judge(
        [_equal(row, margin) for row in rows], f"clear of the margin of {margin:.2g} {rows[0].unit}"
    )


def _order(row: Row) -> _Measured:
    if not row.values:
        return _Measured(row)
    in_favour = fmean(row.values) > 0
    better = row.lost[0 if in_favour else 1]
    return _measured(row, in_favour, estimate(row.values, 0.0, row.step), spoilt=better > 0)


def _equal(row: Row, margin: float) -> _Measured:
    if not row.values:
        return _Measured(row)
    effect = fmean(row.values)
    if len(row.values) > 1:
        row = replace(row, note="; ".join(filter(None, (row.note, AGAINST_MARGIN))))
    below, above = (estimate(row.values, bound, row.step) for bound in (-margin, margin))
    if abs(effect) >= margin:
        return _measured(row, False, above if effect > 0 else below, spoilt=any(row.lost))
    found = max(filter(None, (below, above)), key=lambda one: one.p, default=None)
    return _measured(row, True, found, spoilt=any(row.lost))


def _measured(row: Row, in_favour: bool, found: Estimate | None, *, spoilt: bool) -> _Measured:
    enough = len(row.values) >= LEAST_SEEDS
    return _Measured(row, in_favour, found, enough and not spoilt and not row.invalid)


def _judge(measured: Sequence[_Measured], clear: str) -> Judgement:
    against = [1.0 if one.in_favour else one.p for one in measured]
    corrected = holm(against)
    evidence = tuple(
        _evidence(one, p if len(measured) > 1 and not one.in_favour else None)
        for one, p in zip(measured, corrected, strict=True)
    )
    if not any(one.row.differences or any(one.row.lost) for one in measured):
        reason = NO_PAIR if any(one.row.begun for one in measured) else NO_RESULT
        return Judgement(Verdict.NOT_RUN, evidence, None, reason)
    refuting = [i for i, one in enumerate(measured) if not one.in_favour and small(corrected[i])]
    seen = [index for index, one in enumerate(measured) if one.in_favour is not None]
    begun = next((index for index, one in enumerate(measured) if one.row.begun), None)
    main = max(refuting or seen, key=lambda index: measured[index].weakness, default=begun)
    if refuting and main is not None:
        after = " after Holm" if len(measured) > 1 else ""
        level = f"p ≤ {LEVEL:g}{after}{_students([measured[main]])}"
        reason = f"{measured[main].row.compared} is {clear} on the other side ({level})"
        return Judgement(Verdict.REFUTED, evidence, main, reason)
    if all(one.supports for one in measured):
        reason = f"{_every(len(measured))} {clear} (p ≤ {LEVEL:g}{_students(measured)})"
        return Judgement(Verdict.SUPPORTED, evidence, main, reason)
    return Judgement(Verdict.UNDECIDED, evidence, main, _why_undecided(measured, clear))


def plural(count: int, thing: str) -> str:
    """Return e.g. "1 run", "2 runs"."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def small(p: float | None) -> bool:
    """Return whether a p reaches the level."""
    return p is not None and p <= LEVEL


def _every(count: int) -> str:
    if count <= 2:
        return "the difference is" if count == 1 else "both differences are"
    return f"all {count} differences are"


def _students(measured: Sequence[_Measured]) -> str:
    """Name the assumption of the test for few seeds where one of the rows needs it."""
    few = [one for one in measured if one.found and one.found.test is Method.STUDENT]
    return " by Student's t, which assumes normal differences" if few else ""


def _evidence(one: _Measured, corrected: float | None) -> Evidence:
    row, found = one.row, one.found
    notes = [row.note] if row.note else []
    for count, which in zip(row.diverged, ("first", "second"), strict=True):
        notes += [f"{plural(count, 'run')} of the {which} diverged"] if count else []
    for count, which in zip(row.vanished, ("first", "second"), strict=True):
        notes += [f"{plural(count, 'seed')}: 0 or not finite for the {which}"] if count else []
    notes += [row.invalid] if row.invalid else []
    effect = fmean(row.values) if row.values else None
    return Evidence(
        compared=row.compared,
        effect=effect,
        unit=row.unit,
        n=len(row.differences),
        p_corrected=corrected,
        in_favour=one.in_favour,
        runs=tuple(run.id for run in row.runs),
        uids=tuple(run.uid for run in row.runs),
        note="; ".join(notes),
        **_estimated(row, found, decides=one.may_decide),
    )


def _estimated(row: Row, found: Estimate | None, *, decides: bool) -> dict[str, Any]:
    if found is None:
        return {}
    images = {}
    if row.accuracies and row.images:
        low, high = with_test_images(found, row.accuracies, row.images)
        images = {"images_low": low, "images_high": high}
    return {
        "low": found.low,
        "high": found.high,
        "p": found.p,
        "test": found.test.value,
        "detectable": found.detectable if decides else None,
        **images,
    }


def _why_undecided(measured: Sequence[_Measured], clear: str) -> str:
    """Return one sentence, what weighs most first."""
    family = len(measured)
    diverged = [one for one in measured if any(one.row.diverged) and not one.supports]
    vanished = [one for one in measured if any(one.row.vanished) and not one.supports]
    invalid = [one for one in measured if one.row.invalid]
    sound = [one for one in measured if not any(one.row.lost) and not one.row.invalid]
    none = sum(not one.row.differences for one in sound)
    few = [n for one in sound if 0 < (n := len(one.row.differences)) < LEAST_SEEDS]
    enough = [one for one in sound if len(one.row.differences) >= LEAST_SEEDS]
    contrary = sum(not one.in_favour and small(one.p) for one in enough)
    without = sum(one.found is None for one in enough)
    unclear = sum(not one.supports for one in enough) - contrary - without
    parts = []
    if none:
        has = "has" if none == 1 else "have"
        parts.append(f"{_some(none, family)} {has} no seed with both sides")
    if diverged:
        parts.append(f"in {_some(len(diverged), family)} runs diverged, which have no value")
    if vanished:
        parts.append(f"in {_some(len(vanished), family)} values are 0 or not finite")
    if invalid:
        parts.append(f"{_some(len(invalid), family)}: {invalid[0].row.invalid}")
    if without:
        parts.append(f"{_some(without, family)} cannot be estimated: all values are equal")
    if few:
        seeds = f"{plural(min(few), 'seed')} in {_some(len(few), family)}"
        parts.append(f"{seeds}, {LEAST_SEEDS} needed")
    if unclear:
        parts.append(f"{_some(unclear, family)} {'is' if unclear == 1 else 'are'} not {clear}")
    if contrary:
        parts.append(f"{plural(contrary, 'comparison')} on the other side, but not after Holm")
    return "; ".join(parts)


def _some(count: int, family: int) -> str:
    if family == 1:
        return "the comparison"
    if count == family == 2:
        return "both comparisons"
    return f"all {family} comparisons" if count == family else f"{count} of {family} comparisons"
