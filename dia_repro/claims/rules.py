"""Rules from paired seeds to a verdict; docs/statistics.md explains them.

A claim that one network is better than another in each of k comparisons is supported if in every
comparison the difference is in favour and p ≤ 0.05: an intersection-union test, which tests each
comparison at the full level. It is refuted if in some comparison the difference is on the other
side and p ≤ 0.05 after Holm: "some" gives chance k opportunities, so the k tests share the level.
Two networks are about equal if the whole interval lies within the margin (two one-sided tests), and
are not if it lies beyond.

At least three seeds are needed for a decision. A run that diverged has no accuracy, so its seed
makes no pair. To keep this from helping a network, a network with a diverged run cannot be the
better one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from dia_repro.claims.statistics import LEVEL, Estimate, Method, estimate, holm, with_test_images
from dia_repro.claims.verdicts import AGAINST_MARGIN, Evidence, Judgement, Verdict
from dia_repro.results.queries import RunSummary

NO_RESULT = "no run of its networks has a result"
NO_PAIR = "some of its networks are trained, but no two of a comparison with the same seed"
LEAST_SEEDS = 3  # two have a single degree of freedom: their spread says next to nothing
SIDES = ("first", "second")


@dataclass(frozen=True)
class Row:
    """A comparison with its paired seeds and, once it is measured, its statistics.

    Attributes:
        differences: by seed; above 0 where the first network has what the claim says.
        begun: whether either network has a result.
        diverged: numbers of diverged runs of the first and of the second.
        vanished: numbers of seeds whose difference is lost because a value of the first, or of
            the second, is 0.
        note: remark for the reader, or "".
        invalid: why no verdict may rest on the row, or "".
        step: smallest step of a difference (one test image, in points); 0 if there is none.
        images: where accuracies are compared, the size of the test set; otherwise 0.
        images_error: there, the largest standard error over other test images, in points.
        in_favour: whether the effect is on the claim's side; None without an effect.
        found: None where nothing can be estimated.
        spoilt: whether lost seeds may be the reason for the effect's side.
        condition: whether the row compares with a control that the claim does not name. A claim is
            supported only if the row agrees, but the row cannot refute it.
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
    images: int = 0
    images_error: float | None = None
    in_favour: bool | None = None
    found: Estimate | None = None
    spoilt: bool = False
    condition: bool = False

    @property
    def values(self) -> list[float]:
        """The differences in the order of seeds."""
        return [self.differences[seed] for seed in sorted(self.differences)]

    @property
    def lost(self) -> tuple[int, int]:
        """Numbers of seeds without a difference because of the first, and of the second."""
        return self.diverged[0] + self.vanished[0], self.diverged[1] + self.vanished[1]

    @property
    def may_decide(self) -> bool:
        """True if its runs may decide for the side that the effect is on."""
        return len(self.values) >= LEAST_SEEDS and not (self.spoilt or self.invalid)

    @property
    def p(self) -> float | None:
        """The p of a row that may decide."""
        return self.found.p if self.found and self.may_decide else None

    @property
    def supports(self) -> bool:
        """True if the row alone supports the claim, at the level."""
        return bool(self.in_favour) and small(self.p)

    @property
    def opposes(self) -> bool:
        """True if the row alone speaks against the claim, at the level."""
        return not self.in_favour and small(self.p)


def judge_order(rows: Sequence[Row]) -> Judgement:
    """Judge whether the first network is the better one in each row."""
    measured = [_order(row) if row.values else row for row in rows]
    return _judge(measured, "clear of 0", lambda _: "on the other side")


def judge_equal(rows: Sequence[Row], margin: float) -> Judgement:
    """Judge whether both networks of each row differ by less than a margin, in the rows' unit.

    The margin is at least two steps: on a small test set fewer images are no difference.
    """
    margin = max(margin, *(2 * row.step for row in rows))
    measured = [_equal(row, margin) if row.values else row for row in rows]
    clear = f"clear of the margin of {margin:.2g} {rows[0].unit}"
    return _judge(measured, clear, lambda row: f"with the {SIDES[fmean(row.values) < 0]} ahead")


def _order(row: Row) -> Row:
    in_favour = fmean(row.values) > 0
    better = row.lost[0 if in_favour else 1]
    found = estimate(row.values, 0.0, row.step)
    return replace(row, in_favour=in_favour, found=found, spoilt=better > 0)


def _equal(row: Row, margin: float) -> Row:
    effect = fmean(row.values)
    if len(row.values) > 1:
        row = replace(row, note="; ".join(filter(None, (row.note, AGAINST_MARGIN))))
    below, above = (estimate(row.values, bound, row.step) for bound in (-margin, margin))
    if abs(effect) >= margin:
        found = above if effect > 0 else below
    else:
        found = max(filter(None, (below, above)), key=lambda bound: bound.p, default=None)
    return replace(row, in_favour=abs(effect) < margin, found=found, spoilt=any(row.lost))


def _judge(rows: Sequence[Row], clear: str, contrary: Callable[[Row], str]) -> Judgement:
    """Judge rows that are measured.

    Args:
        clear: words for an effect that decides.
        contrary: words for where a row is that decides against the claim.
    """
    named = [index for index, row in enumerate(rows) if not row.condition]
    family = len(named)
    found, opposed = against([rows[index] for index in named])
    corrected, refuting = dict(zip(named, found, strict=True)), [named[index] for index in opposed]
    evidence = tuple(
        _evidence(row, corrected.get(index) if family > 1 and not row.in_favour else None)
        for index, row in enumerate(rows)
    )
    begun = next((index for index, row in enumerate(rows) if row.begun), None)
    if not any(row.differences or any(row.lost) for row in rows):
        reason = NO_RESULT if begun is None else NO_PAIR
        return Judgement(Verdict.NOT_RUN, evidence, None, reason)
    seen = [index for index, row in enumerate(rows) if row.in_favour is not None]
    main = max(refuting or seen, key=lambda index: weakness(rows[index]), default=begun)
    if refuting and main is not None:
        after = " after Holm" if family > 1 else ""
        level = f"p ≤ {LEVEL:g}{after}{_students([rows[main]])}"
        reason = f"{rows[main].compared} is {clear} {contrary(rows[main])} ({level})"
        return Judgement(Verdict.REFUTED, evidence, main, reason)
    if all(row.supports for row in rows):
        differences = {1: "the difference is", 2: "both differences are"}
        every = differences.get(len(rows), f"all {len(rows)} differences are")
        reason = f"{every} {clear} (p ≤ {LEVEL:g}{_students(rows)})"
        return Judgement(Verdict.SUPPORTED, evidence, main, reason)
    return Judgement(Verdict.UNDECIDED, evidence, main, _why_undecided(rows, clear))


def plural(count: int, thing: str) -> str:
    """Return e.g. "1 run", "2 runs"."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def small(p: float | None) -> bool:
    """Return whether a p reaches the level."""
    return p is not None and p <= LEVEL


def against(found: Sequence[Row | Evidence]) -> tuple[list[float | None], list[int]]:
    """Return each p against the claim after Holm, and the indices of the refuting comparisons."""
    corrected = holm(
        [
            compared.p if compared.in_favour is False or compared.p is None else 1.0
            for compared in found
        ]
    )
    refuting = [
        index
        for index, (compared, p) in enumerate(zip(found, corrected, strict=True))
        if compared.in_favour is False and small(p)
    ]
    return corrected, refuting


def weakness(found: Row | Evidence) -> tuple[int, float]:
    """Return a value that is larger for a comparison that speaks less for the claim."""
    p = 1.0 if found.p is None else found.p
    if found.in_favour:
        return (0 if small(p) else 1, p)
    return (2, 1 - p)


def _students(rows: Sequence[Row]) -> str:
    """Name the assumption of the test for few seeds where one of the rows needs it."""
    few = any(row.found and row.found.test is Method.STUDENT for row in rows)
    return " by Student's t, which assumes normal differences" if few else ""


def _evidence(row: Row, corrected: float | None) -> Evidence:
    notes = [row.note]
    for count, side in zip(row.diverged, SIDES, strict=True):
        notes += [f"{plural(count, 'run')} of the {side} diverged"] if count else []
    for count, side in zip(row.vanished, SIDES, strict=True):
        notes += [f"{plural(count, 'seed')}: 0 or not finite for the {side}"] if count else []
    evidence = Evidence(
        compared=row.compared,
        effect=fmean(row.values) if row.values else None,
        unit=row.unit,
        n=len(row.differences),
        p_corrected=corrected,
        in_favour=row.in_favour,
        note="; ".join(filter(None, (*notes, row.invalid))),
        runs=row.runs,
    )
    if row.found is None:
        return evidence
    images_low, images_high = None, None
    if row.images_error is not None:
        images_low, images_high = with_test_images(row.found, row.images_error)
    return replace(
        evidence,
        low=row.found.low,
        high=row.found.high,
        images_low=images_low,
        images_high=images_high,
        p=row.found.p,
        test=row.found.test.value,
        detectable=row.found.detectable if row.may_decide else None,
    )


def _why_undecided(rows: Sequence[Row], clear: str) -> str:
    """Return one sentence that begins with the most important reason."""

    def some(found: Sequence[Row]) -> str:
        if len(found) < len(rows):
            return f"{len(found)} of {len(rows)} comparisons"
        every = {1: "the comparison", 2: "both comparisons"}
        return every.get(len(rows), f"all {len(rows)} comparisons")

    diverged = [row for row in rows if any(row.diverged) and not row.supports]
    vanished = [row for row in rows if any(row.vanished) and not row.supports]
    invalid = [row for row in rows if row.invalid]
    sound = [row for row in rows if not any(row.lost) and not row.invalid]
    unpaired = [row for row in sound if not row.differences]
    few = [row for row in sound if 0 < len(row.differences) < LEAST_SEEDS]
    enough = [row for row in sound if len(row.differences) >= LEAST_SEEDS]
    equal = [row for row in enough if row.found is None]
    contrary = [row for row in enough if row.opposes and not row.condition]
    unfit = [row for row in enough if row.opposes and row.condition]
    unclear = [row for row in enough if row.found and not (row.supports or row.opposes)]
    seeds = plural(min((len(row.differences) for row in few), default=0), "seed")
    reasons = (
        (
            unpaired,
            f"{some(unpaired)} {'has' if len(unpaired) == 1 else 'have'} no seed with both sides",
        ),
        (diverged, f"in {some(diverged)} runs diverged, which have no value"),
        (vanished, f"in {some(vanished)} values are 0 or not finite"),
        (invalid, f"{some(invalid)}: {next((row.invalid for row in invalid), '')}"),
        (equal, f"{some(equal)} cannot be estimated: all values are equal"),
        (few, f"{seeds} in {some(few)}, {LEAST_SEEDS} needed"),
        (unclear, f"{some(unclear)} {'is' if len(unclear) == 1 else 'are'} not {clear}"),
        (
            unfit,
            f"{some(unfit)} with controls {'is' if len(unfit) == 1 else 'are'} on the other side",
        ),
        (contrary, f"{plural(len(contrary), 'comparison')} on the other side, but not after Holm"),
    )
    return "; ".join(reason for found, reason in reasons if found)
