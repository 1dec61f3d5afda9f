"""Runs over another number of epochs are named, with why nothing of them is reused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dia_repro.artifacts.paper import TABLE5
from dia_repro.execution import campaign
from dia_repro.execution.campaign import Campaign
from dia_repro.execution.dialogue import ConfirmationError, Dialogue
from dia_repro.execution.options import Selection
from dia_repro.execution.schedules import other_lengths, other_rates
from dia_repro.experiments.names import Protocol
from dia_repro.experiments.spec import Spec
from dia_repro.results.database import Database, open_database
from dia_repro.results.schema import State
from tests.artifacts.test_table5 import DEMO, PAPER, add

CELL = ("ResNet83", "SENet")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return open_database(str(tmp_path / "runs.db"), create=True)


def spec(epochs: int | None, cell: tuple[str, str] = CELL) -> Spec:
    return TABLE5.specs(replace(DEMO, epochs=epochs))[cell]


@pytest.mark.parametrize(
    ("before", "lengths", "now", "why"),
    [
        # Cut at 5/8 and 7/8: of 2 epochs after 1 and 2, of 3 after 2 and 3, of 8 after 5 and 7.
        ([2], "1 run of these networks over 2 epochs", 3, "rate differs from epoch 2 on"),
        ([1], "1 run of these networks over 1 epoch", 2, "number of epochs is part of an exp"),
        ([2, 8], "2 runs of these networks over 2 and 8 epochs", 3, "rate differs from epoch 2 on"),
        ([8], "1 run of these networks over 8 epochs", 3, "rate differs from epoch 3 on"),
    ],
)
def test_runs_of_another_length_are_named(
    database: Database, before: list[int], lengths: str, now: int, why: str
) -> None:
    for epochs in before:
        add(database, spec(epochs), 0, [50.0])
    sentence = other_lengths(database, [spec(now)])
    assert sentence is not None
    assert sentence.startswith(f"{database.name} has {lengths}. Over {now} epochs it is another ")
    assert "reuses nothing of them: the " in sentence
    assert why in sentence
    assert "\n" not in sentence


def test_nothing_is_said_of_other_experiments(database: Database) -> None:
    add(database, spec(3), 0, [50.0])  # the same length
    add(database, spec(2, ("ResNet164", "SENet")), 0, [50.0])  # another network
    add(database, TABLE5.specs(replace(PAPER, epochs=2))[CELL], 0, [50.0])  # other data
    add(database, spec(2), 0, [], State.PENDING)  # nothing trained yet
    assert other_lengths(database, [spec(3)]) is None


def test_runs_at_another_rate_are_named(database: Database) -> None:
    add(database, spec(3), 0, [50.0])
    slower, other = (TABLE5.specs(replace(DEMO, epochs=3, rate=r))[CELL] for r in (0.005, 0.02))
    assert slower.recipe == spec(3).recipe.model_copy(update={"lr": 0.005})
    add(database, slower, 0, [50.0])
    add(database, TABLE5.specs(replace(DEMO, epochs=2, rate=0.3))[CELL], 0, [50.0])
    add(database, other, 0, [], State.PENDING)
    name = database.name
    sentence = f"{name} has 1 run of these networks at another learning rate (0.005)."
    assert other_rates(database, [spec(3)]) == sentence
    said = f"{name} has 2 runs of these networks at another learning rate (0.005, 0.01)."
    assert other_rates(database, [other]) == said
    assert other_rates(database, [spec(8)]) is None


class Told(Dialogue):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def notice(self, text: str) -> None:
        self.lines.append(text)


def test_a_campaign_says_so_before_it_trains(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise ConfirmationError

    add(database, spec(2), 0, [50.0])
    told = Told()
    selection = Selection(Protocol.DEMO, only=("SENet ResNet83",), epochs=3)
    location = str(tmp_path / "runs.db")
    asked = Campaign(["table5"], selection, database=location, dialogue=told)
    monkeypatch.setattr(Campaign, "_prepare", stop)
    with pytest.raises(ConfirmationError):
        asked.run("command")
    assert sum("another experiment" in line for line in told.lines) == 1
    told.lines.clear()
    monkeypatch.setattr(campaign, "with_estimates", stop)
    with pytest.raises(ConfirmationError):
        asked.plan()
    assert sum("another experiment" in line for line in told.lines) == 1
