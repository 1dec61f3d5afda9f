"""Feature integration: the earlier layers that predict a layer's hidden state (Figure 5).

For each target layer t of a stage a random forest regresses h_t on h_1 … h_{t-1}; the importances
of a source layer's channels are added up, and a row is divided by its maximum (Algorithm 1).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dia_repro.errors import UsageError
from dia_repro.results.parts import Settings

Floats = NDArray[np.float64]
FAR = 3
INTERVAL = (2.5, 97.5)
LEAST_SAMPLES = 10
BLOCK = 2  # trees that a thread grows at a time


class TooFewSamplesError(UsageError):
    """There are too few images or layers for a regression."""


@dataclass(frozen=True)
class Integration:
    """The feature integration of one stage.

    Attributes:
        samples: number of images analysed.
        shares: by target layer t = 2 … T, (trees, t - 1): the importances of the source layers
            1 … t-1 in each tree, which sum up to 1.
        environment: `results.parts.environment` of where it was made; empty if it is not stored.
    """

    settings: Settings
    samples: int
    shares: Mapping[int, Floats]
    environment: str = ""

    @property
    def layers(self) -> int:
        """Number of layers T of the stage."""
        return max(self.shares)

    @property
    def matrix(self) -> Floats:
        """The heatmap, (T - 1, T - 1): targets 2 … T down, sources 1 … T-1 across.

        Each row is divided by its maximum. Cells above the diagonal, and rows of a layer that
        never varies, are nan.
        """
        size = self.layers - 1
        heat = np.full((size, size), np.nan)
        for target, shares in self.shares.items():
            mean = shares.mean(0)
            if mean.max() > 0:
                heat[target - 2, : target - 1] = mean / mean.max()
        return heat

    def far_share(self) -> tuple[float, float, float]:
        """Return the importance of layers more than three back, mean over targets that have any, %.

        Targets in which no tree found anything, e.g. of a layer that never varies, are left out.

        Returns:
            The forest's value and its interval, which holds 95 % of the single trees' values: each
            tree has its own bootstrap sample of the images. It is about twice as wide as one over
            whole forests, which would take many forests. All nan where there is no such target.
        """
        far = [
            shares[:, : target - 1 - FAR].sum(1)
            for target, shares in self.shares.items()
            if target - 1 > FAR and shares.any()
        ]
        if not far:
            return (float("nan"),) * 3
        per_tree = 100 * np.mean(far, axis=0)
        low, high = np.percentile(per_tree, INTERVAL)
        return float(per_tree.mean()), float(low), float(high)

    def density(self) -> float:
        """Return the mean of the heatmap's cells: 1 if layers draw on all earlier ones equally.

        nan where no tree of any target found anything.
        """
        known = self.matrix[~np.isnan(self.matrix)]
        return float(known.mean()) if known.size else float("nan")

    def main_source_of_last(self) -> int | None:
        """Return the layer from which the last one draws most, counted from 1; None if from none.

        So it is where no tree found anything, because the last layer never varies.
        """
        shares = self.shares[self.layers].mean(0)
        return int(shares.argmax()) + 1 if shares.any() else None


def in_several_environments(found: Iterable[Integration]) -> bool:
    """Return whether analyses that are compared were not all made in one environment."""
    return len({integration.environment for integration in found}) > 1


def integrate(
    states: NDArray[np.float32],
    settings: Settings,
    jobs: int,
    done: Mapping[int, Floats],
    keep: Callable[[int, Floats, float], None],
    on_progress: Callable[[int, int], None],
) -> Integration:
    """Fit the forests of a stage that are not done yet.

    Args:
        states: (B, T, C).
        jobs: threads; the result does not depend on it.
        done: shares of finished target layers, see `Integration`.
        keep: called with each finished target layer, its shares and its seconds of computing.
        on_progress: called with finished and total work, in any unit.

    Raises:
        TooFewSamplesError: there are too few images, or only one layer.
    """
    from dia_repro.analysis.forest import Regressions, tree_seeds

    samples, layers, _ = states.shape
    if samples < LEAST_SAMPLES:
        raise TooFewSamplesError(
            f"{samples} images are too few for a forest: {LEAST_SAMPLES} at least"
        )
    if layers < 2:
        raise TooFewSamplesError(
            f"stage {settings.stage} has one layer only: nothing comes before it"
        )
    regressions = Regressions(states)
    fit = regressions.library_importances if settings.library else regressions.importances
    seeds = tree_seeds(settings.trees, settings.seed)
    blocks = [seeds[first : first + BLOCK] for first in range(0, len(seeds), BLOCK)]
    # The time of a tree is about proportional to its target.
    finished, work = settings.trees * sum(done), settings.trees * sum(range(2, layers + 1))
    on_progress(finished, work)
    shares = dict(done)
    with ThreadPoolExecutor(jobs) as pool:
        try:
            # The largest forests first, so that none is left over at the end.
            growing = {
                target: [pool.submit(_timed, fit, target, block) for block in blocks]
                for target in range(layers, 1, -1)
                if target not in done
            }
            for target, futures in growing.items():
                found, seconds = [], 0.0
                for future in futures:
                    block, took = future.result()
                    found.append(block)
                    seconds += took
                    finished += target * len(block)
                    on_progress(finished, work)
                shares[target] = np.concatenate(found)
                keep(target, shares[target], seconds)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return Integration(settings, samples, dict(sorted(shares.items())))


def _timed(
    fit: Callable[[int, Sequence[int]], Floats], target: int, seeds: Sequence[int]
) -> tuple[Floats, float]:
    """Return the importances in some trees, and the seconds of computing."""
    begun = time.perf_counter()
    return fit(target, seeds), time.perf_counter() - begun
