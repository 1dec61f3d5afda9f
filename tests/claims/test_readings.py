"""What is read from Figures 5 and 6."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from dia_repro.analysis.gini import Integration
from dia_repro.analysis.gradients import RecordedRun
from dia_repro.claims.readings import (
    DENSITIES,
    MIDDLE,
    density_gains,
    earliness,
    gradient_facts,
    integration_facts,
)
from dia_repro.results.parts import Settings, Source
from tests.helpers import tiny_spec

SPREADS = {
    Source.TRAINED: (0.3, 0.4, 0.6),
    Source.INITIAL: (0.3, 0.3, 0.5),
    Source.SHUFFLED: (0.6, 0.6, 0.6),
}


def integration(
    stage: int, last_source: int, spread: float, source: Source = Source.TRAINED, seed: int = 0
) -> Integration:
    """Of five layers; `spread` of the importance falls on others than the main source."""

    def row(sources: int, main: int) -> np.ndarray:
        shares = np.full(sources, spread / max(1, sources - 1))
        shares[main - 1] = 1 - spread if sources > 1 else 1
        return shares[None]

    shares = {target: row(target - 1, 1) for target in (2, 3, 4)} | {5: row(4, last_source)}
    return Integration(Settings(stage, source, 10, 1, seed, library=False), 10, shares)


def of_run(*sources: Source) -> dict[tuple[Source, int], list[Integration]]:
    return {
        (source, stage): [integration(stage, 1, SPREADS[source][stage - 1], source)]
        for source in sources
        for stage in (1, 2, 3)
    }


def test_density_is_trained_alone_and_minus_its_controls() -> None:
    gains = density_gains(of_run(*Source))
    assert set(gains) == set(DENSITIES)
    alone = density_gains(of_run(Source.TRAINED))
    assert list(alone) == ["stage 3 − stage 1", "stage 3 − stage 2"]
    shuffled = "stage 3 − stage 1, trained − shuffled"  # all stages alike: nothing is taken off
    assert gains[shuffled] == pytest.approx(alone["stage 3 − stage 1"])
    before = "stage 3 − stage 1, trained − before training"
    assert 0 < gains[before] < alone["stage 3 − stage 1"]


def test_density_is_averaged_over_forests_that_all_stages_have() -> None:
    kept = of_run(Source.TRAINED)
    before = density_gains(kept)
    kept[Source.TRAINED, 3].append(integration(3, 1, 0.2, seed=1))
    assert density_gains(kept) == before
    for stage in (1, 2):
        kept[Source.TRAINED, stage].append(integration(stage, 1, 0.3, seed=1))
    other = integration(3, 1, 0.2).density() - integration(1, 1, 0.3).density()
    label = "stage 3 − stage 1"
    assert density_gains(kept)[label] == pytest.approx((before[label] + other) / 2)
    del kept[Source.TRAINED, 2]
    assert density_gains(kept) == {}


@pytest.mark.parametrize(("sources", "place"), [([1], 12.5), ([4], 87.5), ([1, 2], 25.0)])
def test_what_the_last_layer_of_stage_1_draws_from(sources: list[int], place: float) -> None:
    found = [integration(1, source, 0.3) for source in sources]
    assert earliness({(Source.TRAINED, 1): found}) == {MIDDLE: pytest.approx(50 - place)}
    assert earliness({(Source.TRAINED, 2): found}) == {}


def test_facts_of_one_runs_figure_5() -> None:
    kept = of_run(*Source)
    mean_cells, last = integration_facts([same[0] for same in kept.values()])
    assert mean_cells.startswith("mean cell of stages 1, 2, 3: trained 0.")
    assert mean_cells.count(";") == 2
    assert last == "the last layer of stage 1 draws most from layer 1 of 4"
    assert integration_facts([integration(2, 1, 0.3)]) == []


def recorded(label: str, *means: float) -> RecordedRun:
    stages = [{"mean": mean, "variance": mean**2} for mean in means]
    records = {0: stages, 7: stages[::-1]}
    return RecordedRun(cast("Any", None), tiny_spec(epochs=8), label, records)


def test_facts_of_figure_6() -> None:
    original = recorded("original", 1.0, 1.0, 1.0)
    first, last = gradient_facts([original, recorded("DIANet", 2, 3, 0.5)])
    assert first.startswith("at initialisation: stage 1: mean, DIANet ÷ original 2; ")
    assert last.startswith("in the last epoch: stage 1: mean, DIANet ÷ original 0.5; ")
    assert gradient_facts([original]) == []


def test_facts_of_figure_6_are_geometric_means_over_runs() -> None:
    originals = [recorded("original", mean, 1.0, 1.0) for mean in (0.5, 2.0)]
    dianets = [recorded("DIANet", mean, 3, 0.5) for mean in (1.0, 4.0, 2.0)]
    first, _ = gradient_facts([*originals, *dianets])
    assert first.startswith(
        "at initialisation, over 3 and 2 runs: stage 1: mean, DIANet ÷ original 2;"
    )


def test_facts_of_figure_6_say_where_a_gradient_vanished() -> None:
    found = gradient_facts([recorded("original", 0.0, 1.0, 0.0), recorded("DIANet", 2, 3, 4)])
    assert found[0].endswith("the others vanished or are not finite")
