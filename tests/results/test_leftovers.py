"""Rows of runs that another program has removed, as SQLite leaves them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from dia_repro.results import writer
from dia_repro.results.database import Database, open_database
from dia_repro.results.merge import merge
from dia_repro.results.queries import all_runs, analysis_parts, run_detail
from dia_repro.results.schema import State
from tests.results.rows import ANALYSIS, PART, SPEC, begin, ensure, epoch


def train(database: Database, top1: float) -> int:
    (run,) = ensure(database)
    lease = begin(database, run)
    for number in (1, 2, 3):
        writer.record_epoch(database, lease, epoch(number, top1))
    writer.end(database, lease, State.FINISHED, wall_seconds=1.0, peak_memory_bytes=1)
    return run


def again(database: Database, folder: Path) -> None:
    ensure(database)


def merged(database: Database, folder: Path) -> None:
    other = open_database(str(folder / "other.db"), create=True)
    train(other, 70.0)
    assert merge(database, [other], skip_conflicts=False).added == 1
    other.close()


@pytest.mark.parametrize("make", [again, merged])
def test_a_new_run_of_the_same_number_has_none_of_them(
    make: Callable[[Database, Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "runs.db"
    database = open_database(str(path), create=True)
    number = train(database, 50.0)
    uid = run_detail(database, number).summary.uid
    writer.record_part(database, uid, ANALYSIS, "{}", 4, PART, 2.0)
    with sqlite3.connect(path) as connection:  # without `pragma foreign_keys = on`
        connection.execute("delete from runs")
    make(database, tmp_path)
    (run,) = all_runs(database)
    detail = run_detail(database, run.id)
    assert (run.id, run.spec_id) == (number, SPEC.spec_id)
    expected = [] if make is again else [70.0] * 3
    assert [row["test_top1"] for row in detail.epochs] == expected
    assert len(detail.provenance) == len(expected[:1])
    assert analysis_parts(database, run.id, ANALYSIS) == {}
    with sqlite3.connect(path) as connection:
        assert connection.execute("pragma foreign_key_check").fetchall() == []
