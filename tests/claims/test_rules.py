"""The rules of verdicts on rows of paired seeds, without networks and databases."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from dia_repro.claims.rules import Row, judge_equal, judge_order
from dia_repro.claims.statistics import share_p
from dia_repro.claims.unpaired import (
    Outcomes,
    judge_counts,
    judge_divergences,
    judge_trains_too,
)
from dia_repro.claims.verdicts import Evidence, Judgement, Verdict

SUPPORTED, REFUTED, UNDECIDED, NOT_RUN = Verdict
CLEAR = [0.9, 1.0, 1.1, 1.2, 0.8, 1.05, 0.95, 1.0, 1.1, 0.9]
UNSURE = [0.9, -0.5, 0.6, -0.4, 0.5, -0.3, 0.7, -0.6, 0.3, 0.2]


def row(name: str, values: Sequence[float], step: float = 0.0) -> Row:
    return Row(name, "points", dict(enumerate(values)), begun=True, step=step)


def negative(values: Sequence[float]) -> list[float]:
    return [-value for value in values]


def main(judged: Judgement) -> str:
    assert judged.main is not None
    return judged.evidence[judged.main].compared


def test_two_seeds_decide_nothing_and_three_by_students_test() -> None:
    two = judge_order([row("a", [1.0, 1.001])])
    assert two.evidence[0].p is not None
    assert two.evidence[0].p < 0.05
    assert two.verdict is UNDECIDED
    assert "2 seeds" in two.reason
    assert "3 needed" in two.reason
    three = judge_order([row("a", [1.0, 1.1, 0.9])])
    assert three.verdict is SUPPORTED
    assert "Student's t, which assumes normal differences" in three.reason


@pytest.mark.parametrize("comparisons", [1, 2, 12])
def test_all_of_k_comparisons_hold_if_each_does_at_the_level(comparisons: int) -> None:
    rows = [row(str(index), CLEAR[:6]) for index in range(comparisons)]
    judged = judge_order(rows)
    assert judged.verdict is SUPPORTED
    assert {comparison.p for comparison in judged.evidence} == {2 / 2**6}
    assert {comparison.p_corrected for comparison in judged.evidence} == {None}
    assert "Student" not in judged.reason


def test_one_comparison_that_is_not_clear_leaves_the_claim_undecided() -> None:
    judged = judge_order([row("a", CLEAR), row("unsure", UNSURE)])
    assert judged.verdict is UNDECIDED
    assert main(judged) == "unsure"


@pytest.mark.parametrize(("comparisons", "verdict"), [(1, REFUTED), (2, UNDECIDED)])
def test_that_some_comparison_fails_is_corrected_by_holm(
    comparisons: int, verdict: Verdict
) -> None:
    others = [row(str(index), CLEAR) for index in range(1, comparisons)]
    judged = judge_order([row("contrary", negative(CLEAR[:6])), *others])
    assert judged.verdict is verdict
    contrary = judged.evidence[0]
    assert contrary.p == 2 / 2**6
    assert contrary.p_corrected == (None if comparisons == 1 else comparisons * 2 / 2**6)


def test_holm_counts_comparisons_that_are_not_trained_yet() -> None:
    judged = judge_order([row("a", negative(CLEAR)), row("b", []), row("c", [])])
    assert judged.evidence[0].p_corrected == 3 * (judged.evidence[0].p or 0)


def test_under_the_null_a_claim_of_two_is_supported_or_refuted_at_most_at_the_level() -> None:
    draw, decided = np.random.default_rng(0), {REFUTED: 0, SUPPORTED: 0, UNDECIDED: 0}
    for _ in range(300):
        rows = [row(name, list(draw.normal(0, 1, 7))) for name in "ab"]
        decided[judge_order(rows).verdict] += 1
    assert decided[REFUTED] <= 0.05 * 300 + 8
    assert decided[SUPPORTED] <= 3  # both by chance on the same side


def test_the_row_that_is_refuted_is_named_before_one_farther_away_that_is_not() -> None:
    wild = [9.0, -12.0, 8.0, -14.0, 3.0, -9.0, 7.0, -11.0, 2.0, -8.0]
    judged = judge_order([row("wild", wild), row("contrary", negative(CLEAR)), row("fine", CLEAR)])
    assert judged.verdict is REFUTED
    assert main(judged) == "contrary"


def test_a_row_on_the_other_side_is_weaker_than_an_unsure_one() -> None:
    contrary = negative(UNSURE)
    judged = judge_order([row("unsure", UNSURE), row("contrary", contrary), row("fine", CLEAR)])
    assert judged.verdict is UNDECIDED
    assert main(judged) == "contrary"
    assert "2 of 3 comparisons are not clear of 0" in judged.reason


def test_a_difference_below_half_a_step_is_undecided() -> None:
    tiny = [value / 10 for value in CLEAR]
    assert judge_order([row("a", tiny)]).verdict is SUPPORTED
    assert judge_order([row("a", tiny, step=0.28)]).verdict is UNDECIDED


@pytest.mark.parametrize("sign", [1, -1])
def test_equal_needs_its_interval_within_the_margin(sign: int) -> None:
    values = [sign * (0.25 + value / 4) for value in UNSURE]  # from 0.1 to 0.475, 0.285 on average
    for margin, verdict in ((0.45, SUPPORTED), (0.35, UNDECIDED), (0.15, REFUTED)):
        judged = judge_equal([row("a", values)], margin)
        (evidence,) = judged.evidence
        far, near = sorted((abs(evidence.low or 0), abs(evidence.high or 0)), reverse=True)
        assert judged.verdict is verdict, (margin, near, far)
        assert (evidence.p or 0) <= 0.05 or verdict is UNDECIDED
        assert evidence.in_favour is (margin > 0.285)
        assert (far < margin) is (verdict is SUPPORTED)
        assert (near > margin) is (verdict is REFUTED)
        ahead = f"with the {'first' if sign > 0 else 'second'} ahead"
        assert (ahead in judged.reason) is (verdict is REFUTED)


def test_equal_needs_both_ends_of_the_interval_within_the_margin() -> None:
    judged = judge_equal([row("a", [-0.5, 0.36, 0.36, 0.36, 0.36, 0.36])], 0.43)
    (evidence,) = judged.evidence
    assert (evidence.low, evidence.high) == pytest.approx((-0.5, 0.36))
    assert judged.verdict is UNDECIDED
    assert "p against the margin" in evidence.note


def test_a_refutation_by_students_test_says_so() -> None:
    assert "Student's t" in judge_order([row("a", [-1.0, -1.1, -0.9])]).reason


def test_equal_values_without_a_step_cannot_be_estimated() -> None:
    judged = judge_order([row("a", [1.0] * 3)])
    assert judged.reason == "the comparison cannot be estimated: all values are equal"


def test_what_too_few_seeds_could_find_is_not_said() -> None:
    assert judge_order([row("a", [1.0, 1.2])]).evidence[0].detectable is None
    assert judge_order([row("a", UNSURE)]).evidence[0].detectable is not None


def test_the_row_that_decides_is_one_that_does_not_support() -> None:
    judged = judge_order([row("clear", CLEAR), row("few", [1.0, 1.001])])
    assert main(judged) == "few"


def test_the_margin_is_at_least_two_steps() -> None:
    values = [0.3, 0.3, 0.6, 0.3, 0.0, 0.3]  # of a test set of 333 images
    assert judge_equal([row("a", values)], 0.43).verdict is UNDECIDED
    judged = judge_equal([row("a", values, step=0.3)], 0.43)
    assert "margin of 0.6 points" in judged.reason


def test_equal_is_neither_supported_nor_refuted_with_a_divergence() -> None:
    for values in ([0.01] * 10, [1.0] * 10):
        spoilt = Row("a", "points", dict(enumerate(values)), begun=True, diverged=(0, 1))
        assert judge_equal([spoilt], 0.43).verdict is UNDECIDED


def outcomes(diverged: int, trained: int, guessing: int = 0) -> Outcomes:
    return Outcomes("a", diverged, guessing, diverged + trained + guessing)


@pytest.mark.parametrize(
    ("cell", "diverges", "trains"),
    [
        (outcomes(6, 0), SUPPORTED, REFUTED),
        (outcomes(0, 6), REFUTED, SUPPORTED),
        (outcomes(5, 0), UNDECIDED, UNDECIDED),
        (outcomes(0, 5), UNDECIDED, UNDECIDED),
        (outcomes(5, 1), UNDECIDED, UNDECIDED),
        (outcomes(8, 1), SUPPORTED, REFUTED),
        (outcomes(99, 1), SUPPORTED, REFUTED),  # more evidence does not weaken a verdict
        (outcomes(0, 0, 6), UNDECIDED, REFUTED),  # finite, and no better than guessing
        (outcomes(0, 5, 1), UNDECIDED, UNDECIDED),
        (outcomes(0, 8, 1), REFUTED, SUPPORTED),
        (outcomes(0, 4, 2), UNDECIDED, UNDECIDED),
        (outcomes(8, 0, 1), SUPPORTED, REFUTED),
        (outcomes(0, 0), NOT_RUN, NOT_RUN),
    ],
)
def test_divergence_and_training(cell: Outcomes, diverges: Verdict, trains: Verdict) -> None:
    assert judge_divergences([cell], claimed=True).verdict is diverges
    assert judge_divergences([cell], claimed=False).verdict is trains


@pytest.mark.parametrize("claimed", [True, False])
@pytest.mark.parametrize("done", [2, 5, 6, 9, 20])
def test_the_interval_of_a_share_excludes_one_half_exactly_where_p_is_small(
    done: int, claimed: bool
) -> None:
    for diverged in range(done + 1):
        judged = judge_divergences([outcomes(diverged, done - diverged)], claimed=claimed)
        (evidence,) = judged.evidence
        assert evidence.low is not None
        assert evidence.high is not None
        assert evidence.p is not None
        assert (evidence.low <= 50 <= evidence.high) is (evidence.p > 0.05)
        assert (judged.verdict is UNDECIDED) is (evidence.p > 0.05)


@pytest.mark.parametrize(("seeds", "verdict"), [(6, UNDECIDED), (7, REFUTED)])
def test_that_some_network_does_not_train_is_corrected_by_holm(
    seeds: int, verdict: Verdict
) -> None:
    judged = judge_divergences([outcomes(0, 9), outcomes(0, 9), outcomes(seeds, 0)], claimed=False)
    assert judged.verdict is verdict
    assert judged.evidence[2].p_corrected == 3 * 2 / 2**seeds
    assert judged.main == 2
    assert "a trained with 0 of" in judged.reason


def test_under_the_null_networks_rarely_train_or_diverge_all() -> None:
    draw, decided = np.random.default_rng(0), dict.fromkeys((SUPPORTED, REFUTED, UNDECIDED), 0)
    for _ in range(500):
        diverged = draw.binomial(7, 0.5, 3)
        cells = [outcomes(int(count), 7 - int(count)) for count in diverged]
        decided[judge_divergences(cells, claimed=False).verdict] += 1
    assert decided[REFUTED] <= 0.05 * 500
    assert decided[SUPPORTED] <= 3


def test_guessing_is_no_sign_against_a_divergence() -> None:
    judged = judge_divergences([outcomes(0, 0, 6)], claimed=True)
    assert judged.reason == "a neither diverged nor trained with 6 of 6 seeds"
    # The count that p belongs to, where one run of many only guesses.
    refuted = judge_divergences([outcomes(0, 9, 1)], claimed=True)
    assert refuted.reason == "a trained with 9 of 10 seeds (p ≤ 0.05)"
    refuted = judge_divergences([outcomes(5, 0, 1)], claimed=False)
    assert refuted.reason == "a trained with 0 of 6 seeds (p ≤ 0.05)"
    judged = judge_divergences([outcomes(0, 5, 1)], claimed=True)
    assert judged.reason == "it depends on the seed: a trained with 5 of 6 seeds"
    # The count that p belongs to, where one run of many only guesses.
    refuted = judge_divergences([Outcomes("a", 0, 1, 10)], claimed=True)
    assert refuted.reason == "a trained with 9 of 10 seeds (p ≤ 0.05)"
    refuted = judge_divergences([Outcomes("a", 5, 1, 6)], claimed=False)
    assert refuted.reason == "a trained with 0 of 6 seeds (p ≤ 0.05)"
    judged = judge_divergences([Outcomes("a", 0, 1, 6)], claimed=True)
    assert judged.reason == "it depends on the seed: a trained with 5 of 6 seeds"


@pytest.mark.parametrize("claimed", [True, False])
def test_effect_interval_and_p_are_of_the_same_share(claimed: bool) -> None:
    for diverged, trained in product(range(10), repeat=2):
        if diverged + trained > 9:
            continue
        cell = outcomes(diverged, trained, 9 - diverged - trained)
        (evidence,) = judge_divergences([cell], claimed=claimed).evidence
        share = {"% diverged": diverged, "% trained": trained}[evidence.unit]
        assert evidence.effect == 100 * share / 9
        assert evidence.low is not None
        assert evidence.high is not None
        assert evidence.p is not None
        assert evidence.p == share_p(share, 9)
        assert (evidence.low <= 50 <= evidence.high) is (evidence.p > 0.05)


def test_a_network_without_enough_seeds_leaves_the_others_open() -> None:
    judged = judge_divergences([outcomes(7, 0), outcomes(1, 0), outcomes(0, 0)], claimed=True)
    assert judged.verdict is UNDECIDED
    assert judged.reason == (
        "1 of 3 networks not trained yet; 1 network with fewer than 6 seeds, which decide nothing"
    )


@pytest.mark.parametrize(
    ("method", "control", "verdict"),
    [
        (outcomes(0, 6), outcomes(0, 6), SUPPORTED),
        (outcomes(0, 6), outcomes(6, 0), REFUTED),
        (outcomes(0, 6), outcomes(0, 3), UNDECIDED),
        (outcomes(0, 3), outcomes(0, 6), UNDECIDED),  # the method is not shown to train
        (outcomes(1, 5), outcomes(0, 6), UNDECIDED),
    ],
)
def test_trains_too_is_asked_where_the_method_is_shown_to_train(
    method: Outcomes, control: Outcomes, verdict: Verdict
) -> None:
    assert judge_trains_too([(control, method)]).verdict is verdict


def test_one_contrary_count_refutes() -> None:
    counts = [
        Evidence(compared="a", effect=-1.0, unit="M", in_favour=True),
        Evidence(compared="b", effect=0.5, unit="M", in_favour=False),
    ]
    judged = judge_counts(counts, "as said")
    assert judged.verdict is REFUTED
    assert main(judged) == "b"
    assert judge_counts(counts[:1], "as said").verdict is SUPPORTED


def test_of_counts_as_claimed_the_smallest_difference_is_shown() -> None:
    effects = {"a": -1.0, "b": -0.2, "c": -3.0}
    counts = [
        Evidence(compared=name, effect=effect, unit="M", in_favour=True)
        for name, effect in effects.items()
    ]
    assert main(judge_counts(counts, "as said")) == "b"
