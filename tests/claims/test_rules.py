"""The rules of verdicts on rows of paired seeds, where networks and databases play no part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from dia_repro.claims.rules import Judgement, Row, judge_equal, judge_order
from dia_repro.claims.statistics import sign_flip_p
from dia_repro.claims.unpaired import Counted, Group, judge_counts, judge_steady
from dia_repro.claims.verdicts import Verdict

CLEAR = [0.9, 1.0, 1.1, 1.2, 0.8, 1.05, 0.95, 1.0, 1.1, 0.9]
UNSURE = [0.9, -0.5, 0.6, -0.4, 0.5, -0.3, 0.7, -0.6, 0.3, 0.2]

# One-sided p against a margin of 0.43 is 0.044, the upper end of the interval 0.47.
NEAR_THE_MARGIN = [0.32, -0.03, 1.1, -0.39, 0.4, 0.12, 0.05, 0.54, -0.47, -0.17]


def row(name: str, values: Sequence[float]) -> Row:
    return Row(name, "points", dict(enumerate(values)), begun=True)


def negative(values: Sequence[float]) -> list[float]:
    return [-value for value in values]


def main(judged: Judgement) -> str:
    assert judged.main is not None
    return judged.evidence[judged.main].compared


def test_an_interval_clear_of_0_is_not_enough() -> None:
    judged = judge_order([row("a", CLEAR[:5])])
    (evidence,) = judged.evidence
    assert (evidence.low or 0) > 0
    assert evidence.p == 2 / 2**5
    assert judged.verdict is Verdict.UNDECIDED
    assert judged.more_seeds == 1


def test_six_seeds_decide_one_comparison_and_seven_two() -> None:
    assert judge_order([row("a", CLEAR[:6])]).verdict is Verdict.SUPPORTED
    assert judge_order([row("a", negative(CLEAR[:6]))]).verdict is Verdict.REFUTED
    two = [row("a", CLEAR[:6]), row("b", CLEAR[:6])]
    assert judge_order(two).verdict is Verdict.UNDECIDED
    two = [row("a", CLEAR[:7]), row("b", CLEAR[:7])]
    assert judge_order(two).verdict is Verdict.SUPPORTED


def test_p_is_corrected_for_all_comparisons_even_those_not_trained() -> None:
    judged = judge_order([row("a", CLEAR), row("b", []), row("c", [])])
    assert judged.evidence[0].p == pytest.approx(3 * sign_flip_p(CLEAR))


def test_the_row_that_is_refuted_is_named_before_one_farther_away_that_is_not() -> None:
    wild = [9.0, -12.0, 8.0, -14.0, 3.0, -9.0, 7.0, -11.0, 2.0, -8.0]
    judged = judge_order([row("wild", wild), row("contrary", negative(CLEAR)), row("fine", CLEAR)])
    assert judged.verdict is Verdict.REFUTED
    assert main(judged) == "contrary"


def test_a_row_on_the_other_side_is_weaker_than_an_unsure_one() -> None:
    unsure = [value - 0.04 for value in UNSURE]
    contrary = negative(UNSURE)
    assert sign_flip_p(contrary) < sign_flip_p(unsure)
    judged = judge_order([row("unsure", unsure), row("contrary", contrary), row("fine", CLEAR)])
    assert judged.verdict is Verdict.UNDECIDED
    assert main(judged) == "contrary"
    assert "2 of 3 comparisons are not clear of 0" in judged.reason


def test_how_many_more_cannot_be_told_while_a_comparison_is_missing() -> None:
    assert judge_order([row("a", UNSURE)]).more_seeds is not None
    assert judge_order([row("a", UNSURE), row("b", [])]).more_seeds is None
    assert judge_order([row("a", UNSURE), row("b", [1.0])]).more_seeds is None


@pytest.mark.parametrize("sign", [1, -1])
def test_equal_needs_its_interval_within_the_margin(sign: int) -> None:
    values = [sign * value for value in NEAR_THE_MARGIN]
    judged = judge_equal([row("a", values)], 0.43)
    (evidence,) = judged.evidence
    assert evidence.p is not None
    assert evidence.p <= 0.05
    assert max(abs(evidence.low or 0), abs(evidence.high or 0)) > 0.43
    assert judged.verdict is Verdict.UNDECIDED
    assert evidence.in_favour


def test_equal_is_neither_supported_nor_refuted_with_a_divergence() -> None:
    for values in ([0.01] * 10, [1.0] * 10):
        spoilt = Row("a", "points", dict(enumerate(values)), begun=True, diverged=(0, 1))
        assert judge_equal([spoilt], 0.43).verdict is Verdict.UNDECIDED


@pytest.mark.parametrize(("draw", "seeds", "moved"), [(6, 6, 0.5), (0, 5, 0.0)])
def test_steady_needs_a_clear_interval_and_six_seeds(draw: int, seeds: int, moved: float) -> None:
    values = np.random.default_rng(draw).normal(75, 0.4, (seeds, 4))
    values[:, 0] += moved
    judged = judge_steady(Group(values, begun=True), "range", "points")
    (evidence,) = judged.evidence
    assert evidence.in_favour
    assert ((evidence.high or 0) > 0) is (seeds == 6)
    assert judged.verdict is Verdict.UNDECIDED
    assert judged.more_seeds is not None


def test_a_count_that_is_otherwise_refutes() -> None:
    counts = [Counted("a", -1.0, "M", holds=True), Counted("b", 0.5, "M", holds=False)]
    judged = judge_counts(counts, "as said")
    assert judged.verdict is Verdict.REFUTED
    assert main(judged) == "b"
    assert judge_counts(counts[:1], "as said").verdict is Verdict.SUPPORTED
