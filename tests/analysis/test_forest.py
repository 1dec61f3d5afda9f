"""Our forest against scikit-learn's: the same estimator, tree by tree."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor

from dia_repro.analysis.forest import Regressions, bootstrap, tree_seeds

Floats = NDArray[np.float64]


def related_states(samples: int, layers: int, channels: int) -> NDArray[np.float32]:
    """Layers that draw on a few common causes and on the layer before."""
    random = np.random.default_rng(1)
    causes = random.standard_normal((samples, 4))
    layer = np.zeros((samples, channels))
    found = []
    for _ in range(layers):
        fresh = np.tanh(causes @ random.standard_normal((4, channels)))
        noise = 0.1 * random.standard_normal((samples, channels))
        layer = 0.5 * layer + 0.5 * fresh + noise
        found.append(layer)
    return np.stack(found, 1).astype(np.float32)


def naive(states: NDArray[np.float32], target: int, trees: int, seed: int, least: int) -> Floats:
    """Per tree and source layer, by the library's forest as anyone would call it."""
    samples, _, channels = states.shape
    forest = RandomForestRegressor(trees, random_state=seed, min_samples_split=least)
    forest.fit(states[:, : target - 1].reshape(samples, -1), states[:, target - 1])
    rows = np.array([tree.feature_importances_ for tree in forest.estimators_])
    sums = rows.reshape(trees, target - 1, channels).sum(2)
    shares: Floats = sums / sums.sum(1, keepdims=True)
    return shares


def test_trees_see_the_images_that_the_librarys_see() -> None:
    states = related_states(50, 2, 3)
    forest = RandomForestRegressor(5, random_state=7).fit(states[:, 0], states[:, 1])
    seeds = tree_seeds(5, 7)
    assert [tree.random_state for tree in forest.estimators_] == list(seeds)
    for drawn, seed in zip(forest.estimators_samples_, seeds, strict=True):
        assert np.array_equal(np.bincount(drawn, minlength=50), bootstrap(50, seed))


@pytest.mark.parametrize(
    ("shape", "least"), [((14, 3, 2), 5), ((90, 3, 8), 20), ((300, 4, 16), 40), ((200, 3, 150), 40)]
)
def test_trees_without_ties_are_the_librarys(shape: tuple[int, int, int], least: int) -> None:
    """Several columns may part a node of few samples alike; here such nodes are leaves."""
    states = related_states(*shape)
    target = shape[1]
    ours = Regressions(states, least).importances(target, tree_seeds(4, 3))
    assert np.abs(ours - naive(states, target, 4, 3, least)).max() < 1e-9


def test_the_librarys_own_trees_are_those_of_a_naive_fit_to_the_bit() -> None:
    states = related_states(120, 4, 6)
    ours = Regressions(states).library_importances(4, tree_seeds(5, 11))
    assert np.array_equal(ours, naive(states, 4, 5, 11, least=2))


def test_ours_differs_from_the_library_no_more_than_the_library_from_itself() -> None:
    states = related_states(150, 5, 12)
    regressions = Regressions(states)
    seeds = range(6)
    library = [naive(states, 5, 20, seed, least=2).mean(0) for seed in seeds]
    ours = [regressions.importances(5, tree_seeds(20, seed)).mean(0) for seed in seeds]

    def distances(a: list[Floats], b: list[Floats]) -> float:
        pairs = [(i, j) for i in seeds for j in seeds if i != j]
        return float(np.mean([np.abs(a[i] - b[j]).max() for i, j in pairs]))

    assert distances(ours, library) < 1.25 * distances(library, library)
    # Nor do the means over all seeds lie apart.
    apart = np.abs(np.mean(ours, 0) - np.mean(library, 0)).max()
    assert apart < distances(library, library)


def test_columns_that_never_vary_have_no_importance() -> None:
    states = related_states(60, 3, 4)
    states[:, 0] = 0.5
    ours = Regressions(states).importances(3, tree_seeds(3, 0))
    assert np.array_equal(ours, [[0, 1]] * 3)
    states[:, 1] = 0.5
    assert not Regressions(states).importances(3, tree_seeds(3, 0)).any()


def test_equal_columns_share_what_they_are_worth() -> None:
    states = related_states(60, 3, 4)
    states[:, 1] = states[:, 0]
    ours = Regressions(states).importances(3, tree_seeds(40, 0)).mean(0)
    assert ours[0] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_states_without_an_order_are_refused(value: float) -> None:
    states = related_states(20, 2, 3)
    states[3, 0, 1] = value
    with pytest.raises(ValueError, match="not all finite"):
        Regressions(states)
