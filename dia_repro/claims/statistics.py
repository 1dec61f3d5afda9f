"""Statistics of a difference between two networks that are trained with the same few seeds.

A test and its interval are one computation: the 95 % interval excludes a value exactly where the
two-sided p against that value is at most 0.05.

- Six and more seeds: the sign-flip test, which assumes only that differences scatter symmetrically
  about their mean. The interval consists of all means that the test does not reject.
- Two to five seeds: Student's t test, since the sign-flip test cannot reach 0.05 there. It assumes
  normally distributed differences, which so few seeds cannot show; results name it.

Intervals are for other seeds on the same test images; `with_test_images` includes other images.

Accuracies are multiples of one test image, the step. Equal differences under a few seeds would give
an interval of no width, so every test asks for half a step more, and every interval is half a step
wider at each end. Share of intervals that contain the true mean, in a simulation (a test repeats
it): at least 94 % for n = 3 to 12 with normal, tied, and moderately skewed (skewness 0.5)
differences; 93 % at skewness 1, 88 % at skewness 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DIGITS = 11  # of percentages: far below one image of the test set, far above rounding
NEARLY = 1e-8  # of values that differ by rounding only, as a share of the largest
ROUNDING = 1e-12  # of values that are equal, as a share of their size
LEVEL = 0.05  # two-sided, of every test; intervals are 1 - LEVEL wide
POWER = 0.8
LEAST_FOR_FLIPS = 6  # 2 / 2⁶ is the first below the level
# Mean, in standard deviations, that the sign-flip test finds with 80 % power, by number of pairs:
# from a simulation of normal differences. For more pairs the value of the t test is used.
FOUND_BY_FLIPS = {6: 1.795, 7: 1.333, 8: 1.2, 9: 1.082, 10: 1.011, 11: 0.934, 12: 0.88}
MOST_EXACT = 22  # pairs up to which all sign flips are computed: 2²²
SAMPLED_FLIPS = 1_000_000
FLIPS_AT_A_TIME = 50_000  # limits memory


class Method(StrEnum):
    """Test behind a p and an interval."""

    FLIPS = "sign flips"
    STUDENT = "Student's t"


@dataclass(frozen=True)
class Estimate:
    """A mean difference with its uncertainty over seeds, in the differences' unit.

    Attributes:
        low, high: 95 % interval of the mean.
        p: two-sided, against the value of the null hypothesis.
        detectable: the smallest distance from that value that as many seeds would find with 80 %
            probability if their spread is the observed one.
    """

    effect: float
    low: float
    high: float
    p: float
    test: Method
    detectable: float


def paired_differences(first: Mapping[int, float], second: Mapping[int, float]) -> dict[int, float]:
    """Return first minus second by seed, in the order of seeds, where both have a value.

    Differences are rounded so that equal numbers of correct answers differ by 0.
    """
    common = sorted(first.keys() & second.keys())
    return {seed: round(first[seed] - second[seed], DIGITS) for seed in common}


def estimate(values: Sequence[float], against: float = 0.0, step: float = 0.0) -> Estimate | None:
    """Estimate the mean of paired differences and test it against a value.

    Args:
        values: a difference for each seed.
        against: mean under the null hypothesis.
        step: the values' smallest step; 0 if they have none.

    Returns:
        None with fewer than two values, or if they have neither spread nor step.
    """
    numbers = np.asarray(values, dtype=float)
    if len(numbers) < 2:
        return None
    slack, effect = step / 2, float(numbers.mean())
    nearly = NEARLY * float(np.abs(numbers).max())
    # The mean of equal values is rounded, so that their standard deviation need not be 0.
    equal = float(np.ptp(numbers)) <= ROUNDING * float(np.abs(numbers).max())
    spread = max(0.0 if equal else float(numbers.std(ddof=1)), slack)
    if len(numbers) < LEAST_FOR_FLIPS:
        if spread == 0:
            return None
        test, (low, high, p) = Method.STUDENT, _student(numbers, spread, against, slack)
    else:
        test, (low, high, p) = Method.FLIPS, _flips(numbers, against, slack, nearly)
    # An end that is the value but for rounding does not exclude it, as p does not reject it.
    low, high = (
        against if abs(end - against) <= nearly else end for end in (low - slack, high + slack)
    )
    detectable = slack + detectable_difference(len(numbers), spread)
    return Estimate(effect, low, high, p, test, detectable)


def _student(
    numbers: Floats, spread: float, against: float, slack: float
) -> tuple[float, float, float]:
    """Return the interval and p of Student's t test."""
    from scipy.special import stdtr, stdtrit  # of Student's t

    count, effect = len(numbers), float(numbers.mean())
    error = spread / math.sqrt(count)
    distance = max(0.0, abs(effect - against) - slack)
    half = float(stdtrit(count - 1, 1 - LEVEL / 2)) * error
    return effect - half, effect + half, float(2 * stdtr(count - 1, -distance / error))


def _flips(
    numbers: Floats, against: float, slack: float, nearly: float
) -> tuple[float, float, float]:
    """Return the interval and p of the sign-flip test.

    Flipping the signs of (value - mean) for a subset of the seeds makes the sum at least as large
    exactly where the mean of that subset is at most the mean tested. So p counts subset means, and
    the interval ends at the first of them that the test does not reject (Hartigan 1969).
    """
    means = np.sort(_subset_means(numbers))
    choices = len(means) + 1  # with the empty subset: the observed signs
    rejected = math.floor(LEVEL / 2 * choices) - 1
    low, high = float(means[rejected]), float(means[-1 - rejected])
    effect = float(numbers.mean())
    if abs(effect - against) <= slack + nearly:
        return low, high, 1.0
    if effect > against:
        beyond = np.searchsorted(means, against + slack + nearly, side="right")
    else:
        beyond = len(means) - np.searchsorted(means, against - slack - nearly, side="left")
    return low, high, min(1.0, 2 * float(1 + beyond) / choices)


def _subset_means(numbers: Floats) -> Floats:
    """Return the means of all non-empty subsets, or of a sample beyond `MOST_EXACT` numbers."""
    if len(numbers) > MOST_EXACT:
        return _sampled_means(numbers)
    sums, sizes = np.zeros(1), np.zeros(1)
    for number in numbers:
        sums = np.concatenate([sums, sums + number])
        sizes = np.concatenate([sizes, sizes + 1])
    return np.asarray(sums[1:] / sizes[1:])


def _sampled_means(numbers: Floats) -> Floats:
    numbers, draw = np.sort(numbers), np.random.default_rng(0)  # seeds are labels: no order counts
    parts = []
    for _ in range(0, SAMPLED_FLIPS, FLIPS_AT_A_TIME):
        chosen = draw.integers(0, 2, (FLIPS_AT_A_TIME, len(numbers))).astype(float)
        sizes = chosen.sum(1)
        parts.append((chosen @ numbers)[sizes > 0] / sizes[sizes > 0])
    return np.concatenate(parts)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p after Holm's step-down correction.

    Args:
        p_values: for each comparison of the family; None for a comparison without a p yet. It
            counts as 1, so that training it does not reverse what is found now.
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(p_values) - rank)))
        corrected[index] = largest
    return corrected


def detectable_difference(pairs: int, spread: float) -> float:
    """Return the mean that the test of this number of pairs finds with 80 % power.

    Args:
        pairs: two or more.
        spread: standard deviation of the paired differences (n - 1); the result has its unit.
    """
    return (FOUND_BY_FLIPS.get(pairs) or _detectable_by_t(pairs)) * spread


@cache
def _detectable_by_t(pairs: int) -> float:
    """Return the mean that a two-sided t test finds, in standard deviations."""
    from scipy.optimize import brentq
    from scipy.stats import nct, t

    freedom = pairs - 1
    limit = t.isf(LEVEL / 2, freedom)
    shift: Any = brentq(lambda shift: nct.sf(limit, freedom, shift) - POWER, 0, 3 * limit + 3)
    return float(shift) / math.sqrt(pairs)


def images_error(first: float, second: float, images: int) -> float:
    """Return the standard error of a difference of accuracies over test images, in points.

    Errors of two networks on the same image are not recorded. This takes the largest variance that
    their observed error rates allow, that they never err together. Against a fixed value it is that
    of the observed rate, which is too small near 0 and 100 %.

    Args:
        first, second: accuracies in %; 100 for a fixed value, whose error is 0.
        images: size of the test set.
    """
    right, other = first / 100, second / 100
    disagree = min(1.0, (1 - right) + (1 - other), right + other)
    return 100 * math.sqrt(max(0.0, disagree - (right - other) ** 2) / images)


def with_test_images(found: Estimate, error: float) -> tuple[float, float]:
    """Return a 95 % interval over seeds and test images, in points.

    Args:
        found: the effect over seeds.
        error: its standard error over test images, or an upper bound of it at the observed error
            rates: `images_error`. With only a few errors on the test set it is too small.
    """
    from scipy.stats import norm

    half = error * float(norm.isf(LEVEL / 2))
    return (
        found.effect - math.hypot(found.effect - found.low, half),
        found.effect + math.hypot(found.high - found.effect, half),
    )


def share_interval(count: int, total: int) -> tuple[float, float] | None:
    """Return the 95 % interval of a share (Clopper and Pearson); None with fewer than two."""
    from scipy.stats import binomtest

    if total < 2:
        return None
    found = binomtest(count, total).proportion_ci(1 - LEVEL, method="exact")
    return float(found.low), float(found.high)


def share_p(count: int, total: int) -> float | None:
    """Return the two-sided p of a share against one half (exact); None with fewer than two."""
    from scipy.stats import binomtest

    return float(binomtest(count, total).pvalue) if total >= 2 else None
