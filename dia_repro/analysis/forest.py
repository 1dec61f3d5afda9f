"""Random forests that regress a layer's hidden states on those of the layers before it.

The estimator is scikit-learn's `RandomForestRegressor` with its defaults and its bootstrap draws;
trees are grown by `tree_kernel`, or by the library itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dia_repro.analysis.tree_kernel import grow

Floats = NDArray[np.float64]
LEAST_SAMPLES_OF_A_SPLIT = 2


def tree_seeds(trees: int, seed: int) -> tuple[int, ...]:
    """Return the seeds of a forest's trees, as scikit-learn draws them."""
    random = np.random.RandomState(seed)
    return tuple(int(random.randint(np.iinfo(np.int32).max)) for _ in range(trees))


def bootstrap(samples: int, tree_seed: int) -> Floats:
    """Return the number of times a tree sees each sample, (samples,), as scikit-learn draws it."""
    drawn = np.random.RandomState(tree_seed).randint(0, samples, samples, dtype=np.int32)
    return np.bincount(drawn, minlength=samples).astype(np.float64)


class Regressions:
    """The regressions of one stage: h_t on h_1 … h_{t-1} for t = 2 … T (Algorithm 1).

    Args:
        states: (B, T, C).
        least_split: number of samples below which a node is a leaf.

    Raises:
        ValueError: a state is not finite: it has no place in an order.
    """

    def __init__(
        self, states: NDArray[np.float32], least_split: int = LEAST_SAMPLES_OF_A_SPLIT
    ) -> None:
        if not np.isfinite(states).all():
            raise ValueError("hidden states are not all finite")
        self.states, self.least_split = states, least_split
        self.samples, self.layers, self.channels = states.shape
        self._columns = np.ascontiguousarray(states.reshape(self.samples, -1).T)
        self._sorted = np.argsort(self._columns, axis=1, kind="stable").astype(np.int32)

    def importances(self, target: int, seeds: Sequence[int]) -> Floats:
        """Return each source layer's importance in each tree, (trees, t - 1); rows sum up to 1.

        The row of a tree that finds nothing to split is 0.

        Args:
            target: t, counted from 1; at least 2.
            seeds: seeds of the trees.
        """
        outputs = self.states[:, target - 1].astype(np.float64)
        outputs -= outputs.mean(0)
        outputs = np.ascontiguousarray(outputs)
        products = outputs @ outputs.T
        width = (target - 1) * self.channels
        columns, order = self._columns[:width], self._sorted[:width]
        rows = np.zeros((len(seeds), width))
        for row, seed in zip(rows, seeds, strict=True):
            weight = bootstrap(self.samples, seed)
            grow(columns, order, outputs, products, weight, seed, self.least_split, row)
        return self._by_layer(rows)

    def library_importances(self, target: int, seeds: Sequence[int]) -> Floats:
        """Return the importances in trees that scikit-learn grows one after the other."""
        from sklearn.tree import DecisionTreeRegressor

        columns = self.states.reshape(self.samples, -1)[:, : (target - 1) * self.channels]
        rows = []
        for seed in seeds:
            tree = DecisionTreeRegressor(
                max_features=1.0, min_samples_split=self.least_split, random_state=seed
            )
            weight = bootstrap(self.samples, seed)
            tree.fit(columns, self.states[:, target - 1], sample_weight=weight)
            rows.append(tree.feature_importances_)
        return self._by_layer(np.array(rows))

    def _by_layer(self, rows: Floats) -> Floats:
        sums = rows.reshape(len(rows), -1, self.channels).sum(2)
        whole = sums.sum(1, keepdims=True)
        shares: Floats = np.divide(sums, whole, out=np.zeros_like(sums), where=whole > 0)
        return shares
