"""Results of runs whose epoch was chosen by images held out of the training set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dia_repro.artifacts import ARTIFACTS
from dia_repro.artifacts.explanation import gather
from dia_repro.artifacts.learning import learning
from dia_repro.artifacts.selection import Wanted, is_needed
from dia_repro.claims.evaluate import evaluate_claims
from dia_repro.claims.verdicts import ClaimVerdict, Epoch, Verdict
from dia_repro.experiments.names import Protocol, SelectOn
from dia_repro.experiments.protocols import Request
from dia_repro.rendering.grid import make_grid
from dia_repro.rendering.learning import draw_learning
from dia_repro.results.checks import database_findings
from dia_repro.results.database import Database, open_database
from dia_repro.results.queries import all_runs
from tests.artifacts.courses import LOWER, add

TABLE5 = ARTIFACTS["table5"]
REQUEST = Request(Protocol.PAPER, epochs=3, select=SelectOn.VALIDATION)
WANTED = Wanted(Protocol.PAPER, epochs=3, select=SelectOn.VALIDATION)
SENET, DIANET = ("ResNet83", "SENet"), ("ResNet83", "DIANet (r=4)")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """Seven seeds of each network of Table 5, DIANet better by five points; epoch 2 does best."""
    database = open_database(str(tmp_path / "runs.db"), create=True)
    for entry in TABLE5.entries:
        better = 5.0 * entry.column.startswith("DIANet")
        for seed in range(7):
            top1 = 60 + better + 0.1 * seed
            add(database, entry.spec(REQUEST), seed, [top1 - 9, top1, top1 - 4])
    return database


def claims(database: Database, by: Epoch = Epoch.BEST) -> dict[str, ClaimVerdict]:
    return {found.claim: found for found in evaluate_claims(database, WANTED, by)}


def test_a_cell_is_the_test_accuracy_of_the_chosen_epoch(database: Database) -> None:
    assert [*database_findings(database)] == []
    value = TABLE5.compute(database, REQUEST)
    (cell,) = [c for c in value.cells if (c.row, c.column) == SENET and c.metric.startswith("top1")]
    assert cell.metric == "top1"
    assert cell.ours_mean == pytest.approx(60.3 - LOWER)
    assert "images held out" in cell.how
    behind = gather(database, value).experiments[SENET].runs[0]
    assert behind.epoch_for("top1") == 2
    assert behind.run.best_top1 == pytest.approx(60 - LOWER)
    assert behind.run.last_top1 is None


def test_a_table_says_that_images_were_held_out(database: Database) -> None:
    grid = make_grid(TABLE5.compute(database, REQUEST))
    assert [heading.text for heading in grid.headings][-2:] == ["top-1 (%), paper", "ours"]
    notes = " ".join(grid.notes)
    assert "10% held out" in notes
    assert "test accuracy of the epoch that did best on the images held out" in notes
    assert "highest test accuracy" not in notes
    assert "held out" in grid.title


def test_a_curve_is_of_the_images_held_out(database: Database) -> None:
    found = learning(gather(database, TABLE5.compute(database, REQUEST)), "test_top1")
    assert found.panels[0].networks[0].lines[0].points[:, 1].tolist() == [51.0, 60.0, 56.0]
    figure = draw_learning(found)
    assert figure.axes[0].get_ylabel() == "validation accuracy (%)"


def test_claims_take_the_one_accuracy_that_there_is(database: Database) -> None:
    found = {by: claims(database, by)["table5-dianet164"] for by in Epoch}
    for verdict in found.values():
        assert verdict.verdict is Verdict.SUPPORTED
        assert verdict.otherwise is None
        assert "images held out of the training set choose" in verdict.conditions
        assert not verdict.papers_own
        assert "not on the paper's data and schedule" in verdict.reason.lower()


def test_runs_chosen_on_the_test_set_are_not_mixed_in(database: Database) -> None:
    tested = replace(REQUEST, select=SelectOn.TEST)
    assert all(cell.n == 0 for cell in TABLE5.compute(database, tested).cells)
    spec = TABLE5.entries[0].spec(REQUEST)
    assert is_needed(spec, TABLE5)
    assert not is_needed(spec, ARTIFACTS["table9"])


@pytest.mark.parametrize(
    "damage",
    [
        "update epochs set test_top1 = 50 where epoch = 1",
        "update epochs set test_loss = null where epoch = 3",
        "update epochs set validation_top1 = null where epoch = 2",
    ],
)
def test_metrics_that_the_spec_does_not_say_are_found(damage: str, database: Database) -> None:
    with database.writing() as session:
        session.connection().exec_driver_sql(damage)
    assert any("that its spec does not say" in found.text for found in database_findings(database))


def test_validation_metrics_of_a_spec_without_are_found(database: Database) -> None:
    spec = TABLE5.entries[0].spec(replace(REQUEST, select=SelectOn.TEST))
    add(database, spec, 0, [50.0, 51.0, 52.0])
    assert [*database_findings(database)] == []
    run = max(run.id for run in all_runs(database))
    with database.writing() as session:
        session.connection().exec_driver_sql(
            f"update epochs set validation_top1 = 50 where run_id = {run} and epoch = 1"
        )
    (found,) = database_findings(database)
    assert found.text == f"run {run} has metrics in epoch 1 that its spec does not say"


def test_overfitting_is_not_judged_where_the_last_epoch_is_not_tested(database: Database) -> None:
    for entry in ARTIFACTS["table9"].entries:
        for seed in range(6):
            add(database, entry.spec(REQUEST), seed, [50.0, 60.0, 55.0])
    found = claims(database)["table9-overfitting"]
    assert found.verdict is Verdict.NOT_RUN
    assert "the last epoch is not tested" in found.reason
    assert claims(database)["table9-error"].verdict is Verdict.UNDECIDED
