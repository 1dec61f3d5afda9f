"""Feature integration: from which earlier layers a layer's hidden state can be told (Figure 5).

For each target layer t of a stage a random forest regresses h_t on h_1 … h_{t-1}; the importances
of a source layer's channels are added up, and a row is divided by its maximum (Algorithm 1).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dia_repro.analysis.states import Source
from dia_repro.errors import UsageError

if TYPE_CHECKING:
    from dia_repro.analysis.forest import Task

Floats = NDArray[np.float64]
FAR = 3
INTERVAL = (2.5, 97.5)
LEAST_SAMPLES = 10
# Trees of a task: so many that a thread is busy for a while, so few that none waits at the end.
BLOCK = 2


class TooFewSamplesError(UsageError):
    """There is nothing to regress."""


@dataclass(frozen=True)
class Settings:
    """Settings that the result of an analysis depends on, besides the run.

    Attributes:
        stage: from 1.
        source: which hidden states.
        samples: test images.
        trees: of each forest.
        seed: of the choice of images and of the forests.
        library: whether scikit-learn grows the trees.
    """

    stage: int
    source: Source
    samples: int
    trees: int
    seed: int
    library: bool

    def canonical_json(self) -> str:
        """Return the database's text for these settings, always the same."""
        return json.dumps({"kind": "gini", **asdict(self)}, sort_keys=True)


@dataclass(frozen=True)
class Integration:
    """The feature integration of one stage.

    Attributes:
        samples: images there were.
        shares: for each target layer t = 2 … T, of each tree the importances of its source
            layers 1 … t-1, which sum up to 1: (trees, t - 1).
    """

    settings: Settings
    samples: int
    shares: Mapping[int, Floats]

    @property
    def layers(self) -> int:
        """Number of layers T of the stage."""
        return max(self.shares)

    @property
    def matrix(self) -> Floats:
        """The heatmap, (T - 1, T - 1): targets 2 … T down, sources 1 … T-1 across.

        Each row is divided by its maximum; above the diagonal it is nan, and in a row of a layer
        that never varies.
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

        Returns:
            Of the forest; and its interval, 95 % of what single trees give. Each tree has its own
            bootstrap sample of the images, so that is a bootstrap interval over images for a tree:
            about twice as wide as one over whole forests, which would take as many forests.
            All nan where no layer is that far back.
        """
        far = [
            shares[:, : target - 1 - FAR].sum(1)
            for target, shares in self.shares.items()
            if target - 1 > FAR
        ]
        if not far:
            return (float("nan"),) * 3
        per_tree = 100 * np.mean(far, axis=0)
        low, high = np.percentile(per_tree, INTERVAL)
        return float(per_tree.mean()), float(low), float(high)

    def density(self) -> float:
        """Return the mean of the heatmap's cells: 1 where a layer draws on all before it alike."""
        return float(np.nanmean(self.matrix))

    def main_source_of_last(self) -> int:
        """Return the layer from which the last one draws most, counted from 1."""
        return int(self.shares[self.layers].mean(0).argmax()) + 1


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
        done: by target layer, see `Integration.shares`.
        keep: called with a target layer, its shares and its seconds of computing, when it is done.
        on_progress: called with work done and all work, in any unit.

    Raises:
        TooFewSamplesError: there are too few images, or only one layer.
    """
    from dia_repro.analysis.forest import Regressions, split_work, tree_seeds

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
    tasks = list(split_work(layers, tree_seeds(settings.trees, settings.seed), BLOCK))
    work = sum(task.work for task in tasks)
    finished = sum(task.work for task in tasks if task.target in done)
    on_progress(finished, work)
    tasks = [task for task in tasks if task.target not in done]
    shares = dict(done)
    with ThreadPoolExecutor(jobs) as pool:
        try:
            results = zip(tasks, pool.map(partial(_timed, fit), tasks), strict=True)
            for target, blocks in groupby(results, key=lambda pair: pair[0].target):
                found, seconds = [], 0.0
                for task, (block, took) in blocks:
                    found.append(block)
                    seconds += took
                    finished += task.work
                    on_progress(finished, work)
                shares[target] = np.concatenate(found)
                keep(target, shares[target], seconds)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return Integration(settings, samples, dict(sorted(shares.items())))


def _timed(fit: Callable[[Task], Floats], task: Task) -> tuple[Floats, float]:
    """Return the importances in some trees, and the seconds of computing."""
    begun = time.perf_counter()
    return fit(task), time.perf_counter() - begun
