"""What is made of the paper's sentences."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from dia_repro.analysis.gini import Integration, Settings
from dia_repro.analysis.gradients import RecordedRun
from dia_repro.analysis.states import Source
from dia_repro.claims.readings import of_gradients, of_integration
from tests.helpers import tiny_spec


def integration(stage: int, last_source: int, spread: float) -> Integration:
    """Of five layers; `spread` of the importance falls on others than the main source."""

    def row(sources: int, main: int) -> np.ndarray:
        shares = np.full(sources, spread / max(1, sources - 1))
        shares[main - 1] = 1 - spread if sources > 1 else 1
        return shares[None]

    shares = {target: row(target - 1, 1) for target in (2, 3, 4)} | {5: row(4, last_source)}
    return Integration(Settings(stage, Source.TRAINED, 10, 1, 0, library=False), 10, shares)


@pytest.mark.parametrize(("spread", "denser"), [(0.6, True), (0.1, False)])
def test_the_third_stage_is_denser_or_not(spread: float, denser: bool) -> None:
    found = [integration(1, 1, 0.3), integration(2, 1, 0.3), integration(3, 1, spread)]
    first, second = of_integration(found)
    assert first.holds is denser
    assert second.holds


@pytest.mark.parametrize(("source", "early"), [(1, True), (2, True), (3, False), (4, False)])
def test_what_the_last_layer_of_stage_1_draws_from(source: int, early: bool) -> None:
    (statement,) = of_integration([integration(1, source, 0.3)])
    assert statement.holds is early
    assert f"layer {source} of 4" in str(statement)
    assert of_integration([integration(2, source, 0.3)]) == []


def recorded(label: str, *means: float) -> RecordedRun:
    stages = [{"mean": mean, "variance": mean**2} for mean in means]
    records = {0: stages, 7: stages[::-1]}
    return RecordedRun(cast("Any", None), tiny_spec(epochs=8), label, records)


def test_gradients_are_larger_in_each_stage_or_the_sentence_does_not_hold() -> None:
    original = recorded("original", 1.0, 1.0, 1.0)
    assert [s.holds for s in of_gradients([original, recorded("DIANet", 2, 3, 1.1)])] == [True] * 2
    small = of_gradients([original, recorded("DIANet", 2, 3, 0.9), recorded("SENet", 9, 9, 9)])
    assert [s.holds for s in small] == [False, False]
    assert "does not hold here" in str(small[0])
    assert of_gradients([original]) == []


def test_where_a_stage_vanished_nothing_holds_in_each_stage() -> None:
    found = of_gradients([recorded("original", 0.0, 1.0, 0.0), recorded("DIANet", 2, 3, 4)])
    assert [one.holds for one in found] == [False, False]
    assert "the others vanished" in str(found[0])
