"""Rows that dia-repro does not write are found, and neither merged nor upgraded."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from dia_repro.results import writer
from dia_repro.results.backends import ForeignDatabaseError
from dia_repro.results.checks import database_findings
from dia_repro.results.claims import take
from dia_repro.results.database import Database, open_database
from dia_repro.results.merge import MergeError, merge
from dia_repro.results.queries import all_runs
from dia_repro.results.schema import State
from dia_repro.results.upgrade import upgrade_database
from tests.results.rows import PROVENANCE, begin, ensure, epoch
from tests.results.test_upgrade import VERSIONS

FALSE = {
    "update epochs set test_top1 = 150 where epoch = 2": "run 1 has test_top1 150 in epoch 2",
    "update epochs set train_loss = -1 where epoch = 1": "run 1 has train_loss -1 in epoch 1",
    "update epochs set epoch = 9 where epoch = 3": "run 1 has 3 epochs, the last of which is",
    "delete from epochs where epoch = 3": "finished with 2 epochs, not all of its spec's",
    "update specs set json = replace(json, '0.01', '0.02')": "is not what its spec_id says",
    "update specs set json = '{}'": "cannot be read",
    "update runs set uid = '/../docs' where id = 1": "run 1 has the uid '/../docs'",
    "update runs set uid = 'ABC' where id = 1": "run 1 has the uid 'ABC'",
    "update provenance set data_sha256 = '1' where run_id = 2": "trained on 2 different data sets",
}


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Database]:
    """Two finished runs of a spec."""
    database = open_database(str(tmp_path / "other.db"), create=True)
    for run in ensure(database, seeds=2):
        attempt = begin(database, run)
        for number in (1, 2, 3):
            writer.record_epoch(database, run, attempt, epoch(number))
        writer.end(database, run, attempt, State.FINISHED, wall_seconds=1.0, peak_memory_bytes=1)
    yield database
    database.close()


def change(database: Database, statement: str) -> None:
    with database.engine.connect() as connection:
        connection.exec_driver_sql("pragma foreign_keys = off")
        connection.exec_driver_sql(statement)
        connection.commit()


@pytest.mark.parametrize("statement", FALSE)
def test_false_rows_are_found_and_not_merged(
    statement: str, database: Database, other: Database
) -> None:
    assert [finding.text for finding in database_findings(other)] == []
    change(other, statement)
    found = [finding.text for finding in database_findings(other) if finding.bad]
    assert any(FALSE[statement] in text for text in found), found
    with pytest.raises(MergeError, match=r"is not sound: .*nothing was merged"):
        merge(database, [other], skip_conflicts=True)
    assert all_runs(database) == ()


def test_runs_on_other_data_are_a_conflict(database: Database, other: Database) -> None:
    """Here and there each database is sound by itself; one cell would mix the two."""
    run = ensure(database, seeds=3)[2]
    take(database, run, "me", "here", {**PROVENANCE, "data_sha256": "1"})
    merged = merge(database, [other], skip_conflicts=True)
    assert [(one.seed, one.reason) for one in merged.conflicts] == [
        (0, "was trained on other data than runs here"),
        (1, "was trained on other data than runs here"),
    ]
    assert merged.added == merged.continued == 0


def test_an_upgrade_refuses_false_ids(tmp_path: Path) -> None:
    path = Path(shutil.copy(sorted(VERSIONS.glob("*.db"))[0], tmp_path / "old.db"))
    with sqlite3.connect(path) as connection:
        connection.execute("update runs set uid = '/../docs' where id = 1")
    before = path.read_bytes()
    with pytest.raises(ForeignDatabaseError, match=r"run 1 has the uid '/../docs'"):
        upgrade_database(str(path))
    assert path.read_bytes() == before
