"""Random forests that regress a layer's hidden states on those of the layers before it.

The estimator is scikit-learn's `RandomForestRegressor` with its defaults, whose bootstrap draws
are taken over; trees are grown by `tree_kernel`, or by the library itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dia_repro.analysis.tree_kernel import grow

Floats = NDArray[np.float64]
LEAST_SAMPLES_OF_A_SPLIT = 2


@dataclass(frozen=True)
class Task:
    """Some trees of one target layer's forest.

    Attributes:
        target: t, counted from 1; 2 at least.
        seeds: of the trees.
    """

    target: int
    seeds: tuple[int, ...]

    @property
    def work(self) -> int:
        """A measure of how long it takes."""
        return self.target * len(self.seeds)


def tree_seeds(trees: int, seed: int) -> tuple[int, ...]:
    """Return the seeds of a forest's trees, as scikit-learn draws them."""
    random = np.random.RandomState(seed)
    return tuple(int(random.randint(np.iinfo(np.int32).max)) for _ in range(trees))


def bootstrap(samples: int, tree_seed: int) -> Floats:
    """Return how often a tree sees each sample, (samples,), as scikit-learn draws it."""
    drawn = np.random.RandomState(tree_seed).randint(0, samples, samples, dtype=np.int32)
    return np.bincount(drawn, minlength=samples).astype(np.float64)


class Regressions:
    """The regressions of one stage: h_t on h_1 … h_{t-1} for t = 2 … T (Algorithm 1).

    Args:
        states: (B, T, C).
        least_split: samples without which a node is a leaf.
    """

    def __init__(
        self, states: NDArray[np.float32], least_split: int = LEAST_SAMPLES_OF_A_SPLIT
    ) -> None:
        self.states, self.least_split = states, least_split
        self.samples, self.layers, self.channels = states.shape
        self._columns = np.ascontiguousarray(states.reshape(self.samples, -1).T)
        self._sorted = np.argsort(self._columns, axis=1, kind="stable").astype(np.int32)

    def importances(self, task: Task) -> Floats:
        """Return each source layer's importance in each tree, (trees, t - 1); rows sum up to 1.

        A row is 0 throughout where a tree finds nothing to split.
        """
        outputs = self.states[:, task.target - 1].astype(np.float64)
        outputs -= outputs.mean(0)
        outputs = np.ascontiguousarray(outputs)
        products = outputs @ outputs.T
        width = (task.target - 1) * self.channels
        rows = np.zeros((len(task.seeds), width))
        for row, seed in zip(rows, task.seeds, strict=True):
            weight = bootstrap(self.samples, seed)
            grow(
                self._columns[:width],
                self._sorted[:width],
                outputs,
                products,
                weight,
                seed,
                self.least_split,
                row,
            )
        return self._by_layer(rows)

    def library_importances(self, task: Task) -> Floats:
        """Return the same by scikit-learn, the trees one after the other."""
        from sklearn.tree import DecisionTreeRegressor

        width = (task.target - 1) * self.channels
        columns = self.states.reshape(self.samples, -1)[:, :width]
        rows = []
        for seed in task.seeds:
            tree = DecisionTreeRegressor(
                max_features=1.0, min_samples_split=self.least_split, random_state=seed
            )
            weight = bootstrap(self.samples, seed)
            tree.fit(columns, self.states[:, task.target - 1], sample_weight=weight)
            rows.append(tree.feature_importances_)
        return self._by_layer(np.array(rows))

    def _by_layer(self, rows: Floats) -> Floats:
        sums = rows.reshape(len(rows), -1, self.channels).sum(2)
        whole = sums.sum(1, keepdims=True)
        shares: Floats = np.divide(sums, whole, out=np.zeros_like(sums), where=whole > 0)
        return shares


def split_work(layers: int, seeds: tuple[int, ...], block: int) -> Iterator[Task]:
    """Yield all trees of all targets, the largest forests first: so that none trails behind."""
    for target in range(layers, 1, -1):
        for first in range(0, len(seeds), block):
            yield Task(target, seeds[first : first + block])
