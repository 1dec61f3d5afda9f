"""Statistics of paired seeds: against enumeration by hand, against scipy, and by simulation."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from dia_repro.claims import statistics
from dia_repro.claims.statistics import (
    DIGITS,
    Estimate,
    Floats,
    Method,
    detectable_difference,
    estimate,
    holm,
    images_error,
    paired_differences,
    share_interval,
    with_test_images,
)

SKEWED = [0.3, 0.9, 0.1, 0.4, 2.5, 0.2, 0.6, 0.5, 0.35, 0.7]


def found(values: list[float] | Floats, against: float = 0.0, step: float = 0.0) -> Estimate:
    result = estimate(list(values), against, step)
    assert result is not None
    return result


def test_only_seeds_that_both_have_make_a_pair() -> None:
    differences = paired_differences({2: 5.0, 0: 3.0, 7: 1.0}, {0: 1.0, 2: 5.5, 3: 9.0})
    assert list(differences.items()) == [(0, 2.0), (2, -0.5)]


def test_equal_counts_of_correct_answers_differ_by_nothing() -> None:
    first, second = (
        {seed: 100 * correct / 355 for seed, correct in enumerate(counts)}
        for counts in ((301, 309), (300, 310))
    )
    assert sum(paired_differences(first, second).values()) == 0


def by_enumeration(values: Floats, against: float) -> float:
    """Share of all choices of signs whose sum is as extreme as the observed one."""
    apart = values - against
    sums = np.array(list(product([1, -1], repeat=len(apart)))) @ apart
    return float((np.abs(sums) >= abs(apart.sum()) - 1e-9).mean())


@pytest.mark.parametrize("pairs", [6, 7, 10])
def test_p_is_that_of_all_sign_flips(pairs: int) -> None:
    draw = np.random.default_rng(pairs)
    for _ in range(40):
        values, against = draw.normal(0.5, 1.0, pairs), float(draw.normal())
        assert found(values, against).p == pytest.approx(by_enumeration(values, against))
        counts = draw.integers(-2, 4, pairs).astype(float)
        assert found(counts).p == pytest.approx(by_enumeration(counts, 0.0))


def test_six_equal_signs_are_the_first_that_suffice() -> None:
    estimated = found([0.9, 1.0, 1.1, 1.2, 0.8, 1.05])
    assert (estimated.test, estimated.p) == (Method.FLIPS, 2 / 2**6)
    assert (estimated.low, estimated.high) == (
        0.8,
        1.2,
    )  # six: between the smallest and the largest


def test_few_pairs_are_judged_by_students_test() -> None:
    for values in (SKEWED[:2], SKEWED[:5]):
        ours, theirs = found(values), stats.ttest_1samp(values, 0)
        interval = theirs.confidence_interval(0.95)
        assert ours.test is Method.STUDENT
        assert ours.p == pytest.approx(float(theirs.pvalue))
        assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("step", [0.0, 0.5, 100 / 355, 100 / 10_000])
@pytest.mark.parametrize("pairs", [2, 5, 6, 7, 8, 9])
def test_the_interval_excludes_a_value_exactly_where_p_is_small(pairs: int, step: float) -> None:
    draw = np.random.default_rng(pairs)
    for _ in range(20):
        for values in (draw.normal(0.6, 1.0, pairs), draw.integers(-1, 3, pairs) * (step or 1)):
            for against in (0.0, 0.3):
                digits = [round(float(value), DIGITS) for value in values]
                ours = estimate(digits, against, step)
                assert ours is None or (ours.low <= against <= ours.high) is (ours.p > 0.05)


def test_an_estimate_allows_for_half_a_step_of_rounding() -> None:
    values = [0.5, 1.0, 0.5, 1.0, 0.5, 1.0]
    assert found(values, step=1.0).p == 1.0 or found(values, step=1.0).low <= 0
    assert found(values, step=0.5).low == pytest.approx(0.25)
    assert found([1.0] * 3, step=1.0).p > 0.05  # equal differences show no certainty


def test_without_spread_or_seeds_there_is_no_estimate() -> None:
    assert estimate([0.5, 0.5, 0.5]) is None
    assert estimate([0.5]) is None
    assert estimate([]) is None
    for count in range(2, 6):  # whose standard deviation is 1.7e-17 by rounding
        assert [estimate([value] * count) for value in (0.1, 0.28, 0.3)] == [None] * 3
    assert found([0.5] * 6).p == 2 / 2**6  # of which the sign-flip test needs none


def test_many_pairs_are_sampled_and_come_near_the_exact_test(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(3).normal(0.4, 1.0, 21)
    monkeypatch.setattr(statistics, "MOST_EXACT", 20)
    sampled = found(values)
    assert found(values[::-1]) == sampled, "seeds are labels: their order does not count"
    assert (sampled.low <= 0 <= sampled.high) is (sampled.p > 0.05)
    assert found([1.0] * 30).p == pytest.approx(2e-6, rel=0.01)  # never 0
    monkeypatch.setattr(statistics, "MOST_EXACT", 21)
    exact = found(values)
    assert sampled.p == pytest.approx(exact.p, abs=0.001)
    assert (sampled.low, sampled.high) == pytest.approx((exact.low, exact.high), abs=0.02)


def share_covered(values: Floats, mean: float, step: float = 0.0) -> float:
    inside = [ours.low <= mean <= ours.high for row in values if (ours := estimate(row, 0.0, step))]
    return sum(inside) / len(values)


@pytest.mark.parametrize("pairs", range(3, 13))
def test_95_percent_intervals_contain_the_mean_in_94_of_100_simulations(pairs: int) -> None:
    draw, samples = np.random.default_rng(200 + pairs), 1000
    least = 0.94 - 2 * math.sqrt(0.94 * 0.06 / samples)  # two standard errors of the simulation
    normal = draw.normal(1.0, 2.0, (samples, pairs))
    assert share_covered(normal, 1.0) >= least
    skewed = draw.gamma(16, 0.25, (samples, pairs))  # skewness 0.5
    assert share_covered(skewed, 4.0) >= least
    for spread in (0.5, 1.5):
        tied = np.rint(draw.normal(0.3, spread, (samples, pairs)))
        counts = np.arange(-30, 31)
        shares = np.diff(stats.norm.cdf((np.append(counts, 31) - 0.5 - 0.3) / spread))
        assert share_covered(tied, float(counts @ shares), 1.0) >= least


def test_the_simulation_would_find_intervals_that_are_too_narrow() -> None:
    values = np.random.default_rng(1).normal(0.0, 1.0, (400, 6))
    percentile = [
        np.quantile(row[np.random.default_rng(0).integers(0, 6, (999, 6))].mean(1), (0.025, 0.975))
        for row in values
    ]
    assert np.mean([low <= 0 <= high for low, high in percentile]) < 0.92


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.02, None, 0.6]) == [pytest.approx(0.06), None, 1.0]
    assert holm([None] * 4) == [None] * 4


def test_holm_is_more_lenient_than_bonferroni_and_never_above_1() -> None:
    ps = [0.001, 0.02, 0.03, 0.9]
    corrected = [p for p in holm(ps) if p is not None]
    assert corrected == sorted(corrected)
    assert all(p <= mine <= min(1, 4 * p) for p, mine in zip(ps, corrected, strict=True))


def test_the_detectable_difference_is_the_textbooks() -> None:
    # One-sample t test, 34 pairs, 80 % power, 5 % two-sided: 0.5 standard deviations.
    assert detectable_difference(34, 1.0) == pytest.approx(0.5, abs=0.01)
    assert detectable_difference(34, 2.0) == 2 * detectable_difference(34, 1.0)
    assert found(SKEWED).detectable == detectable_difference(10, float(np.std(SKEWED, ddof=1)))


@pytest.mark.parametrize("pairs", [3, 6, 8, 12, 14])
def test_a_detectable_difference_is_found_in_four_of_five_simulations(pairs: int) -> None:
    mean = detectable_difference(pairs, 1.0)
    samples = np.random.default_rng(4).normal(mean, 1.0, (600, pairs))
    small = [found(sample).p <= 0.05 for sample in samples]
    assert float(np.mean(small)) == pytest.approx(0.8, abs=0.05)  # three standard errors


def test_an_interval_over_test_images_covers_new_images_and_seeds() -> None:
    """Networks that err on independent images of a population: a new test set each time."""
    draw, images, covered = np.random.default_rng(5), 400, 0
    for _ in range(300):
        hard = draw.random(images)  # how hard an image is for both
        right = [
            [(draw.random(images) < level + 0.1 * (hard < 0.5)).mean() for _ in range(6)]
            for level in (0.85, 0.80)
        ]
        first, second = (100 * np.array(answers) for answers in right)
        error = images_error(first.mean(), second.mean(), images)
        low, high = with_test_images(found(first - second, step=100 / images), error)
        covered += low <= 5.0 <= high
    assert covered / 300 >= 0.94


def test_an_interval_over_test_images_by_hand() -> None:
    over_seeds = Estimate(2.0, 1.0, 4.0, 0.03, Method.FLIPS, 1.0)
    low, high = with_test_images(over_seeds, images_error(94.0, 92.0, 1000))
    half = 100 * 1.959964 * math.sqrt((0.06 + 0.08 - 0.02**2) / 1000)
    assert low == pytest.approx(2 - math.hypot(1, half))
    assert high == pytest.approx(2 + math.hypot(2, half))


def test_an_accuracy_against_a_fixed_value_has_the_binomial_error() -> None:
    assert images_error(80.0, 100.0, 400) == pytest.approx(100 * math.sqrt(0.8 * 0.2 / 400))
    assert images_error(80.0, 80.0, 400) == pytest.approx(100 * math.sqrt(0.4 / 400))
    assert images_error(100.0, 100.0, 400) == 0


def test_share_interval_by_hand() -> None:
    assert share_interval(5, 5) == pytest.approx((0.025 ** (1 / 5), 1.0))
    assert share_interval(1, 1) is None
