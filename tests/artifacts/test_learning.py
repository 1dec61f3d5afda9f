"""What learning curves are drawn from."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from dia_repro.artifacts.explanation import gather
from dia_repro.artifacts.learning import Divergence, Learning, learning, mean
from dia_repro.artifacts.paper import TABLE3, TABLE5, TABLE8
from dia_repro.results.database import Database, open_database
from dia_repro.results.schema import State
from tests.artifacts.courses import add
from tests.artifacts.test_table5 import DEMO, PAPER

SENET83 = TABLE5.specs(DEMO)["ResNet83", "SENet"]


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return open_database(str(tmp_path / "runs.db"), create=True)


def of_table5(database: Database) -> Learning:
    return learning(gather(database, TABLE5.compute(database, DEMO)), "test_top1")


def test_the_mean_is_over_the_epochs_that_all_have() -> None:
    lines = [[(1.0, 2.0), (2.0, 4.0)], [(1.0, 4.0), (3.0, 9.0)]]
    assert mean([np.array(line) for line in lines]).tolist() == [[1.0, 3.0]]
    assert len(mean([])) == 0


def test_a_line_for_every_run_and_a_mean_of_those_that_finished(database: Database) -> None:
    add(database, SENET83, 1, [30.0, 50.0])
    add(database, SENET83, 0, [10.0, 20.0])
    add(database, SENET83, 2, [90.0], State.DIVERGED, "loss nan at step 3 of epoch 2")
    add(database, SENET83, 3, [70.0], State.RUNNING)
    found = of_table5(database)
    assert [panel.rows for panel in found.panels] == [(row,) for row in TABLE5.paper.rows]
    senet, dianet = found.panels[0].networks
    assert [line.seed for line in senet.lines] == [0, 1, 2, 3]
    assert senet.lines[0].points.tolist() == [[1.0, 10.0], [2.0, 20.0]]
    assert (senet.mean.tolist(), senet.finished) == ([[1.0, 20.0], [2.0, 35.0]], 2)
    assert (dianet.lines, len(dianet.mean)) == ((), 0)
    assert found.seen == [found.panels[0]]


def test_without_runs_there_is_nothing_to_draw(database: Database) -> None:
    assert not of_table5(database).seen


def test_what_is_not_finite_is_left_out(database: Database) -> None:
    spec = TABLE8.specs(DEMO)["ResNet83", "SENet"]
    reason = "loss inf at step 9 of epoch 2"
    add(database, spec, 0, [10.0], State.DIVERGED, reason, loss=math.inf)
    value = TABLE8.compute(database, DEMO)
    loss = learning(gather(database, value), "train_loss").panels[0].networks[1]
    assert loss.lines[0].points.tolist() == []
    top1 = learning(gather(database, value), "test_top1").panels[0].networks[1]
    assert top1.lines[0].points.tolist() == [[1.0, 10.0]]


def test_a_divergence_is_where_the_run_says(database: Database) -> None:
    # 1,442 images in batches of 64 are 23 steps.
    add(database, SENET83, 0, [], State.DIVERGED, "loss nan at step 23 of epoch 1")
    add(database, SENET83, 1, [9.0, 9.0], State.DIVERGED, "loss inf at step 1 of epoch 3")
    add(database, SENET83, 2, [9.0], State.DIVERGED)
    add(database, SENET83, 3, [9.0], State.FAILED, "no memory at step 3 of epoch 2")
    # Reasons that dia-repro does not write: of another epoch, and numbers too long to be read.
    nines = 5000 * "9"
    for seed, place in enumerate(("step 3 of epoch 7", f"step {nines} of epoch 2"), start=4):
        add(database, SENET83, seed, [9.0], State.DIVERGED, f"loss nan at {place}")
    add(database, SENET83, 6, [9.0], State.DIVERGED, f"loss nan at step 3 of epoch {nines}")
    senet = of_table5(database).panels[0].networks[0]
    assert senet.divergences == (
        Divergence(1.0, 1, 23),
        Divergence(2 + 1 / 23, 3, 1),
        *[Divergence(1.5, 2, None)] * 4,
    )


def test_rows_of_the_same_experiments_are_one_panel(database: Database) -> None:
    demo = learning(gather(database, TABLE3.compute(database, DEMO)), "test_top1")
    assert demo.panels[0].rows == ("ResNet164 CIFAR100", "ResNet164 CIFAR10")
    assert len(demo.panels) == 8
    paper = learning(gather(database, TABLE3.compute(database, PAPER)), "test_top1")
    assert len(paper.panels) == 12
