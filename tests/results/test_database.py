"""Opening databases, good and bad."""

from __future__ import annotations

import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text

from dia_repro.errors import DiaReproError, UsageError
from dia_repro.interrupts import Interrupted
from dia_repro.results import backends, writer
from dia_repro.results.backends import ForeignDatabaseError
from dia_repro.results.database import DatabaseError, LockedError, open_database
from dia_repro.results.migrations import REVISION
from dia_repro.results.queries import all_runs
from dia_repro.results.upgrade import upgrade_database
from tests.helpers import tiny_spec


def add_run(location: str) -> int:
    database = open_database(location, create=True)
    spec = tiny_spec()
    numbers = writer.ensure_runs(database, {spec.spec_id: spec.canonical_json()}, [0])
    database.close()
    return numbers[spec.spec_id, 0]


def test_the_stated_revision_is_the_last_migration() -> None:
    scripts = ScriptDirectory("dia_repro/results/migrations")
    assert scripts.get_current_head() == REVISION


def test_reading_what_is_not_there_makes_no_file(tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "runs.db"), create=False)
    assert all_runs(database) == ()
    assert list(tmp_path.iterdir()) == []


def foreign_table(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("create table customers (name text)")


def newer(path: Path) -> None:
    add_run(str(path))
    with sqlite3.connect(path) as connection:
        connection.execute("update alembic_version set version_num = '9999'")


def text_file(path: Path) -> None:
    path.write_text("these are not the bytes you are looking for\n" * 100)


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(statement)


CODE = {
    "alter table epochs rename to e; create view epochs as select * from e": "view, 'epochs'",
    "create trigger one after insert on runs begin delete from runs; end": "trigger, 'one'",
    # As of a module that not every SQLite has.
    "pragma writable_schema = on; insert into sqlite_master values "
    "('table', 'found', 'found', 0, 'create virtual table found using any')": "virtual table, 'fo",
    "alter table runs add column big as (zeroblob(9))": "generated column, 'runs.big'",
}


@pytest.mark.parametrize("statement", CODE)
def test_foreign_code_in_a_database_is_refused(statement: str, tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    add_run(str(path))
    execute(path, statement)
    before = path.read_bytes()
    for opened in (
        lambda: open_database(str(path), create=False),
        lambda: open_database(str(path), create=True),
        lambda: upgrade_database(str(path)),
    ):
        with pytest.raises(ForeignDatabaseError, match=f"it has a {CODE[statement]}"):
            opened()
    assert path.read_bytes() == before


def test_a_view_alone_is_no_empty_database(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    execute(path, "create view runs as select 1")
    for create in (False, True):
        with pytest.raises(ForeignDatabaseError, match="it has a view, 'runs'"):
            open_database(str(path), create=create)


def raise_interrupted(_number: int, _frame: object) -> None:
    raise Interrupted


def test_a_signal_ends_a_long_statement(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    add_run(str(path))
    database = open_database(str(path), create=False)
    long = "with recursive c(x) as (select 1 union all select x + 1 from c where x < 30000000) "
    before, begun = signal.signal(signal.SIGALRM, raise_interrupted), time.process_time()
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(Interrupted), database.reading() as session:
            session.execute(text(f"{long} select count(*) from c"))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.process_time() - begun < 1, "seconds where it goes on to its end"
    assert len(all_runs(database)) == 1
    database.close()


def truncated(path: Path) -> None:
    add_run(str(path))
    path.write_bytes(path.read_bytes()[:5000])


def damaged(path: Path) -> None:
    add_run(str(path))
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xff" * 3996
    path.write_bytes(content)


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [foreign_table, newer, text_file, truncated, damaged, folder])
@pytest.mark.parametrize("create", [True, False])
def test_foreign_files_are_refused_unchanged(make: object, create: bool, tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    make(path)  # type: ignore[operator]
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(DiaReproError) as refusal:
        all_runs(open_database(str(path), create=create))
    assert isinstance(refusal.value, ForeignDatabaseError | DatabaseError)
    assert "other.db" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_a_newer_schema_is_named(tmp_path: Path) -> None:
    newer(tmp_path / "runs.db")
    with pytest.raises(ForeignDatabaseError, match="9999, newer than this dia-repro"):
        open_database(str(tmp_path / "runs.db"), create=True)


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("/proc/runs.db", DatabaseError),
        ("no-such-folder/runs.db", UsageError),
        ("nonsense://host/name", UsageError),
        ("sqlite://", UsageError),
        ("postgresql+psycopg://nobody@127.0.0.1:1/none", DiaReproError),
    ],
)
def test_locations_that_cannot_be_opened(location: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        open_database(location, create=True)


def test_other_databases_are_not_upgraded(tmp_path: Path) -> None:
    with pytest.raises(ForeignDatabaseError, match="no database"):
        upgrade_database(str(tmp_path / "missing.db"))
    with sqlite3.connect(tmp_path / "foreign.db") as connection:
        connection.execute("create table mine (x)")
    before = (tmp_path / "foreign.db").read_bytes()
    with pytest.raises(ForeignDatabaseError, match="not a dia-repro database"):
        upgrade_database(str(tmp_path / "foreign.db"))
    assert (tmp_path / "foreign.db").read_bytes() == before
    assert not (tmp_path / "missing.db").exists()


def test_a_path_that_begins_with_two_slashes_is_a_path(tmp_path: Path) -> None:
    location = f"/{tmp_path / 'runs.db'}"
    assert location.startswith("//")
    add_run(location)
    with closing(open_database(location, create=False)) as database:
        assert len(all_runs(database)) == 1


def test_a_name_like_an_error_s_words_changes_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that another process locks is no foreign one, whatever its name."""
    monkeypatch.setattr(backends, "BUSY_SECONDS", 0.2)
    monkeypatch.setattr(backends, "ONE_WAIT_SECONDS", 0.1)
    location = str(tmp_path / "malformed.db")
    add_run(location)
    with (
        closing(open_database(location, create=False)) as database,
        closing(sqlite3.connect(location, isolation_level=None)) as other,
    ):
        other.execute("begin immediate")
        with pytest.raises(LockedError), database.writing() as session:
            session.execute(text("select 1"))
