"""Statistics of paired seeds, against values by hand and against scipy's own."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest
from scipy import stats

from dia_repro.claims.statistics import (
    MOST_SEEDS,
    _all_flips,
    bootstrap_interval,
    expected_range,
    holm,
    least_pairs,
    paired_differences,
    pairs_needed,
    share_interval,
    sign_flip_p,
    steadiness,
)

SKEWED = [0.3, 0.9, 0.1, 0.4, 2.5, 0.2, 0.6, 0.5, 0.35, 0.7]


def test_only_seeds_that_both_have_make_a_pair() -> None:
    differences = paired_differences({2: 5.0, 0: 3.0, 7: 1.0}, {0: 1.0, 2: 5.5, 3: 9.0})
    assert list(differences.items()) == [(0, 2.0), (2, -0.5)]


def test_equal_counts_of_correct_answers_differ_by_nothing() -> None:
    first, second = (
        {seed: 100 * correct / 355 for seed, correct in enumerate(counts)}
        for counts in ((301, 309), (300, 310))
    )
    assert sum(paired_differences(first, second).values()) == 0


def test_the_bootstrap_interval_is_scipys() -> None:
    one = np.array(SKEWED)
    for method, same in (("BCa", True), ("percentile", False)):
        theirs = cast("Any", stats).bootstrap(
            (one,), np.mean, method=method, random_state=np.random.default_rng(0)
        )
        assert (bootstrap_interval(SKEWED) == tuple(theirs.confidence_interval)) is same


def test_the_interval_of_equal_values_is_that_value_and_one_value_has_none() -> None:
    assert bootstrap_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)
    assert bootstrap_interval([0.5]) is None
    assert bootstrap_interval([]) is None


def test_the_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(1)
    samples = draw.normal(1.0, 1.0, (60, 30))
    found = [bootstrap_interval(list(sample)) for sample in samples]
    covered = sum(one is not None and one[0] < 1.0 < one[1] for one in found)
    assert 50 <= covered <= 60


@pytest.mark.parametrize(
    ("values", "two_sided", "one_sided"),
    [
        ([1.0], 1.0, 1 / 2),
        ([1.0, 2.0], 2 / 4, 1 / 4),
        # Sums of ±1 ±2 ±3: 6, 4, 2, 0, 0, -2, -4, -6; observed is 4.
        ([-1.0, 2.0, 3.0], 4 / 8, 2 / 8),
        ([-1.0, -2.0, -3.0], 2 / 8, 8 / 8),
        ([1.0] * 6, 2 / 64, 1 / 64),
        ([0.0, 0.0], 1.0, 1.0),
    ],
)
def test_sign_flips_by_hand(values: list[float], two_sided: float, one_sided: float) -> None:
    assert sign_flip_p(values) == two_sided
    assert sign_flip_p(values, one_sided=True) == one_sided


def test_sign_flips_are_scipys_permutations() -> None:
    theirs: Any = cast("Any", stats).permutation_test(
        (np.array(SKEWED), np.zeros(len(SKEWED))),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    )
    assert sign_flip_p(SKEWED) == pytest.approx(theirs.pvalue)


def test_many_pairs_are_sampled_and_come_near_the_exact_test() -> None:
    draw = np.random.default_rng(3)
    values = list(draw.normal(0.4, 1.0, 21))
    assert sign_flip_p(values) == sign_flip_p(values)
    exact = float((np.abs(_all_flips(np.array(values))) >= abs(sum(values)) - 1e-9).mean())
    assert sign_flip_p(values) == pytest.approx(exact, abs=0.005)
    assert sign_flip_p([1.0] * 30) == pytest.approx(1e-5, rel=1e-3)  # never 0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03], 3) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.02, None, 0.6], 3) == [pytest.approx(0.06), None, 1.0]
    assert holm([None], 4) == [None]


def test_holm_is_more_lenient_than_bonferroni_and_never_above_1() -> None:
    ps = [0.001, 0.02, 0.03, 0.9]
    corrected = [one for one in holm(ps, 4) if one is not None]
    assert corrected == sorted(corrected)
    assert all(p <= mine <= min(1, 4 * p) for p, mine in zip(ps, corrected, strict=True))


@pytest.mark.parametrize("family", [1, 2, 4, 12])
def test_fewer_pairs_than_the_least_cannot_reach_the_level(family: int) -> None:
    least = least_pairs(family)
    assert sign_flip_p([1.0] * least) * family <= 0.05
    assert sign_flip_p([1.0] * (least - 1)) * family > 0.05
    assert least_pairs(1) == 6


def test_pairs_needed_are_those_of_the_textbook() -> None:
    # One-sample t test, effect 0.5 standard deviations, 80 % power, 5 % two-sided: 34.
    assert pairs_needed(0.5, 1.0, 1) == 34
    assert pairs_needed(-1.0, 2.0, 1) == 34
    assert pairs_needed(0.2, 1.0, 1) == 199
    needed = pairs_needed(0.5, 1.0, 4)
    assert needed is not None
    assert needed > 34


def test_pairs_needed_where_it_is_certain_or_cannot_be_told() -> None:
    assert pairs_needed(0.0, 1.0, 1) is None
    assert pairs_needed(0.0, 0.0, 1) is None
    assert pairs_needed(0.01, 1.0, 1) is None
    assert pairs_needed(2.0, 0.0, 1) == pairs_needed(1e9, 1.0, 1) == 6
    assert (pairs_needed(0.09, 1.0, 1) or 0) <= MOST_SEEDS


def test_the_power_is_what_simulation_finds() -> None:
    draw = np.random.default_rng(4)
    samples = draw.normal(0.5, 1.0, (4000, pairs_needed(0.5, 1.0, 1) or 0))
    found = np.asarray(stats.ttest_1samp(samples, 0, axis=1).pvalue) <= 0.05
    assert float(found.mean()) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(("count", "mean"), [(2, 2 / math.sqrt(math.pi)), (4, 2.0588)])
def test_expected_range_of_normal_numbers(count: int, mean: float) -> None:
    assert expected_range(count) == pytest.approx(mean, abs=1e-4)


def test_steadiness_by_hand() -> None:
    # Two networks, two seeds: means 1 and 4, standard deviation √2 of both.
    found = steadiness(np.array([[0.0, 3.0], [2.0, 5.0]]))
    assert found.means_range == 3
    assert found.allowed == pytest.approx(math.sqrt(2) * 2 / math.sqrt(math.pi))
    assert found.excess == pytest.approx(found.means_range - found.allowed)
    assert found.p == pytest.approx(0.5, abs=0.02)  # 2 of the 4 exchanges


def test_steadiness_tells_what_moves_from_what_does_not() -> None:
    values = np.random.default_rng(5).normal(75, 0.4, (10, 4))
    still = steadiness(values)
    assert still.high < 0
    assert still.p > 0.05
    moved = steadiness(values + np.array([3.0, 0, 0, 0]))
    assert moved.low > 0
    assert moved.p <= 0.001
    assert steadiness(values) == still


def test_share_interval_by_hand() -> None:
    assert share_interval(5, 5) == pytest.approx((0.025 ** (1 / 5), 1.0))
    assert share_interval(1, 1) is None
