"""What the picture of accuracy against parameters is drawn from."""

from __future__ import annotations

from pathlib import Path

import pytest

from dia_repro.artifacts.paper import TABLE5
from dia_repro.artifacts.selection import Wanted
from dia_repro.artifacts.sizes import Mark, sizes
from dia_repro.experiments.names import Precision, Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.results.database import Database, open_database
from dia_repro.results.schema import State
from tests.artifacts.courses import add
from tests.artifacts.test_table5 import DEMO

PAPER_ON_GPU = Request(Protocol.PAPER, Precision.TF32)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return open_database(str(tmp_path / "runs.db"), create=True)


def test_without_runs_there_are_the_papers_points_each_once(database: Database) -> None:
    found = sizes(database, Wanted())
    assert [panel.data for panel in found.panels] == ["cifar100", "cifar10", "imagenet"]
    # Tables 3 and 5 share two networks, and Table 4's r = 4 is one of them.
    assert [len(panel.paper) for panel in found.panels] == [12 + 3 + 6, 12, 12]
    assert not any(panel.ours for panel in found.panels)
    assert Mark("ResNet164", "DIANet", 1.95, 76.67) in found.panels[0].paper
    assert Mark("ResNet164 r=1", "DIANet", 2.59, 76.88) in found.panels[0].paper


def test_on_the_papers_data_ours_stand_beside_the_papers(database: Database) -> None:
    specs = TABLE5.specs(PAPER_ON_GPU)
    add(database, specs["ResNet164", "DIANet"], 0, [75.0, 77.0])
    add(database, specs["ResNet164", "DIANet"], 1, [79.0])
    add(database, specs["ResNet407", "SENet"], 0, [], State.DIVERGED)
    found = sizes(database, Wanted())
    assert found.comparable
    both = found.panels[0]
    assert both.data == "cifar100"
    assert len(both.paper) == 21
    dianet, senet = both.ours
    assert (dianet.network, dianet.kind, dianet.parameters) == ("ResNet164", "DIANet", 1.0)
    assert (dianet.top1, dianet.n) == (78.0, 2)
    assert dianet.std == pytest.approx(2**0.5)
    assert (senet.network, senet.diverged) == ("ResNet407", True)


def test_on_other_data_ours_have_a_panel_of_their_own(database: Database) -> None:
    add(database, TABLE5.specs(DEMO)["ResNet83", "SENet"], 0, [90.0])
    found = sizes(database, Wanted())
    assert not found.comparable
    assert [panel.data for panel in found.panels] == ["digits", "cifar100", "cifar10", "imagenet"]
    assert all(not (panel.paper and panel.ours) for panel in found.panels)
    assert [mark.network for mark in found.panels[0].ours] == ["ResNet83"]


def test_another_schedule_is_not_mixed_with_the_papers(database: Database) -> None:
    short = Request(Protocol.PAPER, Precision.TF32, epochs=3)
    add(database, TABLE5.specs(short)["ResNet83", "SENet"], 0, [90.0])
    found = sizes(database, Wanted(epochs=3))
    assert found.panels[0].ours
    assert all(not (panel.paper and panel.ours) for panel in found.panels)
