"""Feature integration: what is made of the forests, and how it is kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dia_repro.analysis.gini import Integration, TooFewSamplesError, integrate
from dia_repro.results.parts import Settings, Source
from tests.analysis.test_forest import related_states
from tests.helpers import clean_environment

Shares = dict[int, NDArray[np.float64]]
SETTINGS = Settings(1, Source.TRAINED, 40, 5, 0, library=False)


def fit(states: NDArray[np.float32], jobs: int, done: Shares, kept: Shares) -> Integration:
    def keep(target: int, shares: NDArray[np.float64], _seconds: float) -> None:
        kept[target] = shares

    return integrate(states, SETTINGS, jobs, done, keep, lambda _done, _all: None)


def test_the_heatmap_has_a_row_for_each_target_divided_by_its_maximum() -> None:
    shares = {2: np.ones((2, 1)), 3: np.array([[0.5, 0.5], [0.1, 0.9]])}
    matrix = Integration(SETTINGS, 40, shares).matrix
    expected = [[1, np.nan], [0.3 / 0.7, 1]]
    assert np.allclose(matrix, expected, equal_nan=True)


def test_the_share_of_far_layers() -> None:
    """Layers more than three back: of target 5 layer 1, of target 6 layers 1 and 2."""
    shares = {target: np.full((4, target - 1), 1 / (target - 1)) for target in range(2, 7)}
    far, low, high = Integration(SETTINGS, 40, shares).far_share()
    assert far == pytest.approx(100 * (1 / 4 + 2 / 5) / 2)
    assert low == pytest.approx(far) == pytest.approx(high)
    near_only = {target: shares[target] for target in (2, 3, 4)}
    assert np.isnan(Integration(SETTINGS, 40, near_only).far_share()).all()


@pytest.mark.filterwarnings("error")
def test_targets_in_which_no_tree_finds_anything_are_left_out() -> None:
    """As those of layers that never vary."""
    found = {target: np.full((4, target - 1), 1 / (target - 1)) for target in range(2, 7)}
    without = Integration(SETTINGS, 40, {**found, 6: np.zeros((4, 5))})
    assert without.far_share()[0] == pytest.approx(100 / 4)
    assert without.main_source_of_last() is None
    assert without.density() == 1
    nothing = Integration(SETTINGS, 40, {target: 0 * shares for target, shares in found.items()})
    assert np.isnan([nothing.density(), *nothing.far_share()]).all()
    assert nothing.main_source_of_last() is None


def test_the_interval_is_that_of_single_trees() -> None:
    far = np.linspace(0, 1, 101)
    shares = {5: np.stack([far, np.zeros(101), np.zeros(101), 1 - far], 1)}
    assert Integration(SETTINGS, 40, shares).far_share() == pytest.approx((50, 2.5, 97.5))


def test_the_largest_forests_are_finished_first() -> None:
    kept: Shares = {}
    fit(related_states(40, 4, 5), 1, {}, kept)
    assert list(kept) == [4, 3, 2]


def test_threads_change_nothing() -> None:
    states = related_states(40, 4, 5)
    single, several = (fit(states, jobs, {}, {}) for jobs in (1, 4))
    assert all(np.array_equal(single.shares[t], several.shares[t]) for t in (2, 3, 4))
    assert [len(single.shares[t]) for t in (2, 3, 4)] == [5, 5, 5]


def test_what_is_done_is_not_done_again() -> None:
    states = related_states(40, 4, 5)
    kept: Shares = {}
    whole = fit(states, 2, {}, kept)
    assert sorted(kept) == [2, 3, 4]
    marked = {4: np.full((5, 3), 1 / 3)}
    again: Shares = {}
    resumed = fit(states, 2, marked, again)
    assert sorted(again) == [2, 3]
    assert np.array_equal(resumed.shares[4], marked[4])
    assert np.array_equal(resumed.shares[3], whole.shares[3])


def test_an_interrupted_analysis_keeps_whole_targets_only() -> None:
    states = related_states(40, 6, 5)
    kept: Shares = {}

    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        integrate(states, SETTINGS, 1, {}, lambda t, s, _: kept.update({t: s}), stop)
    assert 0 < len(kept) < 5
    assert all(len(shares) == SETTINGS.trees for shares in kept.values())


@pytest.mark.parametrize(("samples", "layers"), [(9, 4), (40, 1)])
def test_where_there_is_nothing_to_regress(samples: int, layers: int) -> None:
    with pytest.raises(TooFewSamplesError):
        fit(related_states(samples, layers, 3), 1, {}, {})


def test_settings_name_all_that_the_result_depends_on() -> None:
    texts = {
        Settings(stage, source, samples, trees, seed, library).canonical_json()
        for stage in (1, 2)
        for source in Source
        for samples in (10, 20)
        for trees in (3, 4)
        for seed in (0, 1)
        for library in (False, True)
    }
    assert len(texts) == 2 * 3 * 2 * 2 * 2 * 2


FORESTS = """
import hashlib
import numpy as np
from dia_repro.analysis.gini import integrate
from dia_repro.results.parts import Settings, Source
draw, found = np.random.default_rng(0), {}
first = draw.normal(size=(150, 64))
layers = [first @ draw.normal(size=(64, 64)) + draw.normal(size=(150, 64)) for _ in range(3)]
settings = Settings(1, Source.TRAINED, 150, 20, 0, False)
keep = lambda target, shares, _seconds: found.update({target: shares.tobytes()})
integrate(np.stack(layers, 1).astype(np.float32), settings, 1, {}, keep, lambda _done, _all: None)
print(hashlib.sha256(found[2] + found[3]).hexdigest())
"""


@pytest.mark.slow
def test_forests_are_the_same_where_their_code_is_compiled_and_where_it_is_read(
    tmp_path: Path,
) -> None:
    """An analysis is interrupted in one process, and goes on in another."""
    environment = clean_environment(NUMBA_CACHE_DIR=str(tmp_path))
    command = [sys.executable, "-c", FORESTS]
    said = [
        subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=300
        ).stdout
        for _ in range(2)
    ]
    assert any(tmp_path.rglob("*.nbi")), "nothing was kept"
    assert said[0] == said[1]
