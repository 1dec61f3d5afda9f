"""Table 5 from a database whose runs are known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from dia_repro.artifacts import ARTIFACTS, TableValue, UnknownArtifactError, choose
from dia_repro.artifacts.explanation import gather
from dia_repro.artifacts.paper import TABLE5
from dia_repro.artifacts.selection import Wanted, best_covered
from dia_repro.data import known_data
from dia_repro.experiments.names import Precision, Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.experiments.seeds import Seeds
from dia_repro.experiments.spec import ResNetBackbone, Spec
from dia_repro.rendering.grid import make_grid
from dia_repro.results import writer
from dia_repro.results.database import Database, open_database
from dia_repro.results.schema import State
from tests.results.rows import begin, epoch

DEMO = Request(Protocol.DEMO)
PAPER = Request(Protocol.PAPER)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return open_database(str(tmp_path / "runs.db"), create=True)


def add(
    database: Database,
    spec: Spec,
    seed: int,
    top1: list[float],
    state: State = State.FINISHED,
    parameters: int = 1_000_000,
) -> int:
    """A run with these test accuracies, epoch by epoch."""
    known = {spec.spec_id: spec.canonical_json()}
    run = writer.ensure_runs(database, known, [seed])[spec.spec_id, seed]
    lease = begin(database, run)
    writer.set_parameters(database, lease, parameters)
    for number, figure in enumerate(top1, start=1):
        writer.record_epoch(database, lease, epoch(number, figure))
    if state is not State.RUNNING:
        writer.end(database, lease, state, wall_seconds=1.0, peak_memory_bytes=1)
    return run


def cell(value: TableValue, metric: str = "top1", row: str = "ResNet83", column: str = "SENet"):  # type: ignore[no-untyped-def]
    found = value.find(row, column, metric)
    assert found is not None
    return found


def test_table_5_needs_the_papers_eight_networks() -> None:
    specs = TABLE5.specs(PAPER)
    assert len({spec.spec_id for spec in specs.values()}) == 8
    assert list(specs) == [
        (f"ResNet{depth}", column)
        for depth in (83, 164, 245, 407)
        for column in ("SENet", "DIANet")
    ]
    for (row, column), spec in specs.items():
        assert isinstance(spec.model.backbone, ResNetBackbone)
        assert row == f"ResNet{spec.model.backbone.depth}"
        attention = spec.model.attention.model_dump()
        expected = ("se", 16) if column == "SENet" else ("dia-lstm", 4)
        assert (attention["kind"], attention["reduction"]) == expected
        assert spec.data.dataset == "cifar100"
        assert spec.recipe.epochs == 180


def test_without_runs_every_cell_is_missing_and_the_paper_still_there(database: Database) -> None:
    value = TABLE5.compute(database, PAPER)
    assert {result.status for result in value.cells} == {"missing"}
    assert {result.ours_mean for result in value.cells} == {None}
    assert cell(value).paper == 74.67
    assert cell(value, "top1_last").paper is None
    assert (cell(value).n, cell(value).n_expected) == (0, 1)


def test_best_and_last_epoch_mean_and_deviation_over_seeds(database: Database) -> None:
    spec = TABLE5.specs(PAPER)["ResNet83", "SENet"]
    add(database, spec, 0, [70.0, 76.0, 74.0])
    add(database, spec, 1, [71.0, 74.0, 73.0])
    add(database, spec, 2, [71.0, 75.0, 75.0])
    value = TABLE5.compute(database, PAPER)
    best, last = cell(value), cell(value, "top1_last")
    assert (best.ours_mean, best.ours_std) == (pytest.approx(75.0), pytest.approx(1.0))
    assert (last.ours_mean, last.ours_std) == (pytest.approx(74.0), pytest.approx(1.0))
    assert (best.n, best.n_expected, best.status) == (3, 3, "complete")
    assert best.used == {1, 2, 3}
    assert value.comparable


def test_one_seed_has_no_deviation(database: Database) -> None:
    add(database, TABLE5.specs(PAPER)["ResNet83", "SENet"], 0, [70.0])
    assert cell(TABLE5.compute(database, PAPER)).ours_std is None


def test_a_cell_lacks_the_seeds_that_another_has(database: Database) -> None:
    """And fewer seeds than there are runs cannot be asked for: means are over all of them."""
    specs = TABLE5.specs(PAPER)
    for seed in (0, 1, 2):
        add(database, specs["ResNet164", "SENet"], seed, [70.0])
        add(database, specs["ResNet164", "DIANet"], seed + 3, [71.0])
    for seeds in (None, Seeds.of(2)):
        value = TABLE5.compute(database, PAPER, seeds)
        result = cell(value, row="ResNet164")
        assert len(value.seeds) == 6
        assert (result.n, result.n_expected, result.status) == (3, 6, "partial")
        assert value.mixed.between["seeds"] == ("0 1 2", "3 4 5")
    assert TABLE5.compute(database, PAPER, Seeds.of(7)).seeds == Seeds.of(7)
    for seed in (3, 4, 5):
        add(database, specs["ResNet164", "SENet"], seed, [70.0])
    assert "seeds" not in TABLE5.compute(database, PAPER).mixed.between  # 3 of 6 says enough


def test_chosen_seeds_are_shown_alone_and_named(database: Database) -> None:
    """Runs of seeds 5 to 7 are complete without 0 to 4, which nothing asked for."""
    spec = TABLE5.specs(PAPER)["ResNet83", "SENet"]
    for seed, top1 in ((5, 70.0), (6, 72.0), (7, 80.0)):
        add(database, spec, seed, [top1])
    every, chosen = (
        TABLE5.compute(database, PAPER),
        TABLE5.compute(database, PAPER, Seeds.of("5,6")),
    )
    assert (cell(every).n, cell(every).status) == (3, "complete")
    assert (cell(chosen).ours_mean, cell(chosen).n, cell(chosen).n_expected) == (71.0, 2, 2)
    assert cell(chosen).used == {1, 2}
    assert any("seeds 5 to 7. " in note for note in make_grid(every).notes)
    assert any("seeds 5 and 6. " in note for note in make_grid(chosen).notes)
    assert gather(database, every).state == "partial"  # the other networks have none
    assert gather(database, chosen).done == 2
    for number in (0, 1, 2, 3):  # more runs, of other seeds: not what is asked for
        add(database, TABLE5.specs(DEMO)["ResNet83", "SENet"], number, [50.0])
    covered = {
        text: best_covered(TABLE5, database, Wanted(seeds=Seeds.of(text))).protocol
        for text in ("5-7", "0-3", "4")
    }
    assert covered == {"5-7": Protocol.PAPER, "0-3": Protocol.DEMO, "4": Protocol.DEMO}
    lacking = TABLE5.compute(database, PAPER, Seeds.of("6-8"))
    assert (cell(lacking).n, cell(lacking).n_expected, cell(lacking).status) == (2, 3, "partial")


@pytest.mark.parametrize("state", [State.RUNNING, State.FAILED, State.INTERRUPTED])
def test_runs_without_a_result_do_not_count(database: Database, state: State) -> None:
    spec = TABLE5.specs(PAPER)["ResNet83", "SENet"]
    add(database, spec, 0, [70.0])
    add(database, spec, 1, [99.0], state)
    result = cell(TABLE5.compute(database, PAPER))
    assert (result.ours_mean, result.n, result.n_expected, result.status) == (70.0, 1, 2, "partial")


def test_runs_of_other_specs_are_never_mixed_in(database: Database) -> None:
    other = [
        TABLE5.specs(DEMO),
        TABLE5.specs(Request(Protocol.PAPER, Precision.TF32)),
        TABLE5.specs(Request(Protocol.PAPER, data=known_data("cifar10"))),
    ]
    for specs in other:
        for spec in specs.values():
            add(database, spec, 0, [99.0])
    value = TABLE5.compute(database, PAPER)
    assert {result.status for result in value.cells} == {"missing"}


def test_a_diverged_run_is_nan_and_never_hidden(database: Database) -> None:
    spec = TABLE5.specs(PAPER)["ResNet83", "SENet"]
    add(database, spec, 0, [10.0], State.DIVERGED)
    result = cell(TABLE5.compute(database, PAPER))
    assert result.ours_mean is not None
    assert math.isnan(result.ours_mean)
    assert (result.status, result.n, result.diverged) == ("diverged", 0, 1)
    add(database, spec, 1, [70.0])
    result = cell(TABLE5.compute(database, PAPER))
    assert (result.ours_mean, result.status, result.n, result.diverged) == (70.0, "diverged", 1, 1)


def test_parameters_and_their_difference_come_from_the_runs(database: Database) -> None:
    specs = TABLE5.specs(PAPER)
    add(database, specs["ResNet83", "SENet"], 0, [70.0], parameters=990_000)
    assert cell(TABLE5.compute(database, PAPER), "params").ours_mean == pytest.approx(0.99)
    delta = cell(TABLE5.compute(database, PAPER), "params_delta", column="DIANet")
    assert (delta.ours_mean, delta.status) == (None, "missing")
    add(database, specs["ResNet83", "DIANet"], 0, [70.0], parameters=1_110_000)
    delta = cell(TABLE5.compute(database, PAPER), "params_delta", column="DIANet")
    assert delta.ours_mean == pytest.approx(0.12)
    assert delta.paper == 0.12


def test_the_best_covered_request_is_shown(database: Database) -> None:
    assert best_covered(TABLE5, database, Wanted()).protocol is Protocol.PAPER
    add(database, TABLE5.specs(DEMO)["ResNet83", "SENet"], 0, [70.0])
    assert best_covered(TABLE5, database, Wanted()) == DEMO
    tf32 = Request(Protocol.PAPER, Precision.TF32)
    for row in ("ResNet83", "ResNet164"):
        add(database, TABLE5.specs(tf32)[row, "SENet"], 0, [70.0])
    assert best_covered(TABLE5, database, Wanted()) == tf32
    assert best_covered(TABLE5, database, Wanted(Protocol.DEMO)) == DEMO


def test_artifacts_by_name() -> None:
    assert choose(["table5", "Table5"]) == [TABLE5]
    assert choose(["all"]) == list(ARTIFACTS.values())
    assert choose(["table5", "all"])[0] is TABLE5
    assert len(choose(["table5", "all"])) == len(ARTIFACTS)
    with pytest.raises(UnknownArtifactError, match="did you mean 'table5'"):
        choose(["tabel5"])
    with pytest.raises(UnknownArtifactError, match="there are table1"):
        choose(["xyz"])


def test_the_papers_own_length_said_aloud_is_the_papers(database: Database) -> None:
    add(database, TABLE5.specs(PAPER)["ResNet83", "SENet"], 0, [70.0])
    asked = TABLE5.compute(database, replace(PAPER, epochs=180))
    assert asked == TABLE5.compute(database, PAPER)
    assert asked.comparable
    assert not TABLE5.compute(database, replace(PAPER, epochs=90)).comparable
