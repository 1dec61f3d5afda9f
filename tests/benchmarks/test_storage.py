"""Load and faults, in their quick form; `-m exhaustive` has the full one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks.measurements import CheckResult, NotRunnable
from benchmarks.storage import files, writers
from benchmarks.storage.faults import broken_among, killed_trainings, killed_upgrades
from benchmarks.storage.files import damaged_checkpoints, full_disk
from benchmarks.storage.scale import large_database
from benchmarks.storage.suite import timed
from benchmarks.storage.writers import lease_the_same, write_and_read
from dia_repro.results.backends import writers_of
from dia_repro.results.database import Database
from dia_repro.training import checkpoint
from tests.helpers import benchmarks, one_line


@pytest.mark.parametrize(
    ("writers", "transactions"), [(4, 20), pytest.param(16, 200, marks=pytest.mark.exhaustive)]
)
def test_writers_and_readers(writers: int, transactions: int, location: str) -> None:
    result = write_and_read(location, writers, transactions)
    assert result.good, result.found


@pytest.mark.slow
@pytest.mark.parametrize(
    "check",
    [
        pytest.param(partial(lease_the_same, 4, 6), marks=pytest.mark.exhaustive),
        pytest.param(partial(killed_trainings, 4), marks=pytest.mark.exhaustive),
        partial(damaged_checkpoints, 1000),
        full_disk,
        partial(killed_upgrades, 5),
        pytest.param(partial(broken_among, 6), marks=pytest.mark.exhaustive),
        pytest.param(partial(lease_the_same, 8, 40), marks=pytest.mark.exhaustive),
        pytest.param(partial(killed_trainings, 50), marks=pytest.mark.exhaustive),
        pytest.param(partial(killed_upgrades, 30), marks=pytest.mark.exhaustive),
        pytest.param(partial(broken_among, 20), marks=pytest.mark.exhaustive),
    ],
)
def test_results_survive(check: Callable[[], CheckResult]) -> None:
    try:
        result = check()
    except NotRunnable as reason:
        pytest.skip(str(reason))
    assert result.good, result.found


@pytest.mark.exhaustive
def test_commands_are_quick_with_ten_thousand_runs() -> None:
    for result in large_database(10_000, 200):
        assert result.good, f"{result.check}: {result.found}"


@pytest.mark.exhaustive
def test_commands_work_with_many_runs() -> None:
    for result in large_database(150, 4):
        assert "dia-repro" not in result.check or result.good is not None


def test_checkpoints_that_are_not_verified_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "DIGEST_DIGITS", 0)
    monkeypatch.setattr(checkpoint, "NAME", re.compile(r"epoch-(\d+)-step-(\d+)-()\.pt"))
    monkeypatch.setattr(files, "CUTS", 1)
    monkeypatch.setattr(torch, "load", lambda *_, **__: {})
    assert damaged_checkpoints(3).good is False


def test_half_a_transaction_is_told(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that commits in between is seen by the readers, or its rows are missing."""
    monkeypatch.setattr(writers, "ROWS", 7)  # in this process alone: writers write ten
    assert write_and_read(database.location, 2, 3).good is False
    assert writers_of(database.engine).get_execution_options()["immediate"]


def test_what_cannot_be_run_here_says_why() -> None:
    def check() -> CheckResult:
        raise NotRunnable("needs another machine")

    result = timed("something", check)
    assert (result.check, result.found, result.good) == (
        "something",
        "needs another machine",
        None,
    )


def test_the_command_leaves_nothing_behind(tmp_path: Path) -> None:
    wrong = benchmarks("storage", "--folder", "missing", cwd=tmp_path)
    assert (wrong.returncode, one_line(wrong.stderr)) == (2, True)


@pytest.mark.exhaustive
def test_the_command_prints_a_table_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = benchmarks("storage", "--format", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 7
    assert list(tmp_path.iterdir()) == []
