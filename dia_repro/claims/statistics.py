"""What can be said of a difference between two networks from few seeds.

Pure functions of numbers. A value stands for one seed: both networks of a comparison are trained
with the same seeds, and what counts is the difference under each. Whatever is drawn at random is
drawn from a generator of its own with a fixed seed, so the same values give the same answer.
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DIGITS = 9  # of percentages: far below an image of the test set, far above rounding
LEVEL = 0.05  # two-sided, of every test; intervals are 1 - LEVEL wide
POWER = 0.8
RESAMPLES = 9999
MOST_EXACT = 20  # pairs up to which all sign flips are looked at: 2²⁰ of them
FLIPS_AT_A_TIME = 10_000  # so that they take little memory
SAMPLED_FLIPS = 10 * FLIPS_AT_A_TIME
CERTAIN = 30.0  # standard errors from 0: beyond, the noncentral t is hard to compute, and needless
MOST_SEEDS = 1000  # beyond, nobody trains as many: the effect is as good as none


def paired_differences(first: Mapping[int, float], second: Mapping[int, float]) -> dict[int, float]:
    """First minus second by seed, in the order of seeds, where both have one.

    Rounded so far that equal counts of correct answers differ by 0.
    """
    common = sorted(first.keys() & second.keys())
    return {seed: round(first[seed] - second[seed], DIGITS) for seed in common}


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % bootstrap interval of the mean: BCa, or percentile where that is undefined.

    Returns:
        (low, high), in the values' unit; None with fewer than two values.
    """
    from scipy.stats import bootstrap

    if len(values) < 2:
        return None
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that BCa is undefined is seen by its nan
            found: Any = bootstrap(
                (np.asarray(values, dtype=float),),
                np.mean,
                confidence_level=1 - LEVEL,
                n_resamples=RESAMPLES,
                method=method,
                random_state=np.random.default_rng(0),
            )
        low, high = map(float, found.confidence_interval)
        if not math.isnan(low + high):
            break
    return low, high


def sign_flip_p(values: Sequence[float], *, one_sided: bool = False) -> float:
    """Sign-flip permutation test of paired differences against a mean of 0.

    If the two networks were alike, each difference could as well have the other sign. All 2ⁿ
    choices of signs are looked at up to n = 20, else a sample of them.

    Args:
        values: one or more.
        one_sided: whether only means above 0 speak against chance.

    Returns:
        The share of choices whose sum is as extreme as the one observed; never below 2^(1-n), or
        2^-n one-sided.
    """
    numbers = np.asarray(values, dtype=float)
    sums = _all_flips(numbers) if len(numbers) <= MOST_EXACT else _sampled_flips(numbers)
    observed = float(numbers.sum())
    nearly = 1e-9 * float(np.abs(numbers).sum())  # sums in another order differ in the last digit
    if one_sided:
        return float((sums >= observed - nearly).mean())
    return float((np.abs(sums) >= abs(observed) - nearly).mean())


def _all_flips(numbers: Floats) -> Floats:
    sums = np.zeros(1)
    for number in numbers:
        sums = np.concatenate([sums + number, sums - number])
    return sums


def _sampled_flips(numbers: Floats) -> Floats:
    draw = np.random.default_rng(0)
    parts = [np.array([numbers.sum()])]  # the observed one is a choice, too
    for _ in range(0, SAMPLED_FLIPS, FLIPS_AT_A_TIME):
        signs = draw.integers(0, 2, (FLIPS_AT_A_TIME, len(numbers)), dtype=np.int8)
        parts.append((2.0 * signs - 1.0) @ numbers)
    return np.concatenate(parts)


def holm(p_values: Sequence[float | None], family: int) -> list[float | None]:
    """Holm's step-down correction.

    Args:
        p_values: None for a comparison that has none yet.
        family: how many comparisons there are to be; those without a p count as if theirs were 1,
            so that what is found does not turn around when they are trained.
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, p * (family - rank)))
        corrected[index] = largest
    return corrected


def least_pairs(family: int) -> int:
    """Pairs below which the sign-flip test cannot reach the level after Holm: six for one test."""
    return math.ceil(1 + math.log2(family / LEVEL))


def pairs_needed(distance: float, spread: float, family: int) -> int | None:
    """Pairs with which a two-sided t test would see a mean that far away with 80 % power.

    Args:
        distance: of the mean from what it is tested against.
        spread: standard deviation of the paired differences (n - 1), in the same unit.
        family: how many comparisons share the level (the strictest step of Holm).

    Returns:
        At least `least_pairs`; None where more than a thousand would not do.
    """
    least = least_pairs(family)
    if distance == 0:
        return None
    if spread == 0:
        return least
    effect, level = abs(distance) / spread, LEVEL / family
    if _power(MOST_SEEDS, effect, level) < POWER:
        return None
    pairs = range(least, MOST_SEEDS + 1)
    return pairs[bisect_left(pairs, POWER, key=lambda n: _power(n, effect, level))]


def _power(pairs: int, effect: float, level: float) -> float:
    """Of a two-sided t test of so many pairs, for a mean of so many standard deviations."""
    from scipy.stats import nct, t

    shift = effect * math.sqrt(pairs)
    if shift > CERTAIN:
        return 1.0
    return float(nct.sf(t.isf(level / 2, pairs - 1), pairs - 1, shift))


@dataclass(frozen=True)
class Steadiness:
    """How far the means of several networks lie apart, against the spread between seeds.

    Attributes:
        means_range: largest minus smallest mean.
        allowed: what as many single trainings of one network lie apart on average.
        excess: the former minus the latter.
        low, high: 95 % bootstrap interval of the excess, over seeds; the "basic" one, since means
            of resampled seeds lie farther apart than the means do: where excess is 0, each end
            is wrong in 4 to 7 of 100 simulated cases of 6 to 20 seeds (percentile: 0 and 32).
        p: of the range under exchange of the networks' values within each seed.
    """

    means_range: float
    allowed: float
    excess: float
    low: float
    high: float
    p: float


def steadiness(values: Floats) -> Steadiness:
    """Whether the choice of a network matters more than the choice of a seed.

    Args:
        values: (seeds, networks), two of each at least.
    """
    draw = np.random.default_rng(0)
    seeds, networks = values.shape
    factor = expected_range(networks)

    def compare(sample: Floats) -> Floats:  # (…, seeds, networks)
        spread = np.sqrt(sample.var(-2, ddof=1).mean(-1))
        return np.asarray(np.ptp(sample.mean(-2), -1) - factor * spread)

    excess = float(compare(values))
    resampled = values[draw.integers(0, seeds, (RESAMPLES, seeds))]
    below, above = np.quantile(compare(resampled), (LEVEL / 2, 1 - LEVEL / 2))
    low, high = float(2 * excess - above), float(2 * excess - below)
    means_range = float(np.ptp(values.mean(0)))
    exchanged = draw.permuted(np.broadcast_to(values, (RESAMPLES, seeds, networks)), axis=-1)
    as_wide = np.ptp(exchanged.mean(1), -1) >= means_range * (1 - 1e-9)
    p = float((1 + as_wide.sum()) / (1 + RESAMPLES))
    return Steadiness(means_range, means_range - excess, excess, low, high, p)


def expected_range(count: int) -> float:
    """Mean range of so many standard normal numbers: 1.128 of two, 2.059 of four."""
    from scipy.integrate import trapezoid
    from scipy.stats import norm

    grid = np.linspace(-9, 9, 18_001)
    below = norm.cdf(grid)
    return float(trapezoid(1 - below**count - (1 - below) ** count, x=grid))


def share_interval(count: int, total: int) -> tuple[float, float] | None:
    """95 % interval of a share (Clopper and Pearson); None with fewer than two."""
    from scipy.stats import binomtest

    if total < 2:
        return None
    found = binomtest(count, total).proportion_ci(1 - LEVEL, method="exact")
    return float(found.low), float(found.high)
