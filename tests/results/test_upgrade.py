"""Databases of earlier schemas come up to this one's, row for row.

`versions/` holds one that each of them was made with: finished, diverged and dead runs, numbers
that are not finite, an analysis, a lease.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import signal
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from dia_repro.experiments.spec import spec_id_of
from dia_repro.results import backends, migrations, upgrade
from dia_repro.results.backends import ForeignDatabaseError
from dia_repro.results.checks import database_findings
from dia_repro.results.database import LockedError, open_database
from dia_repro.results.migrations import EARLIER_REVISIONS, REVISION
from dia_repro.results.queries import all_runs, run_detail
from dia_repro.results.schema import Base, State
from dia_repro.results.upgrade import BackupError, BackupExistsError, back_up, upgrade_database
from tests.helpers import tiny_spec

VERSIONS = Path(__file__).parent / "versions"


def rows(path: Path) -> dict[str, list[dict[str, object]]]:
    """Every row of every table."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        names = connection.execute("select name from sqlite_master where type = 'table'").fetchall()
        return {
            name: [dict(row) for row in connection.execute(f"select * from {name} order by rowid")]
            for (name,) in names
        }


@pytest.fixture(params=EARLIER_REVISIONS)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "old" / "runs.db"
    path.parent.mkdir()
    path.write_bytes((VERSIONS / f"{request.param}.db").read_bytes())
    return path


def test_every_version_has_its_database() -> None:
    assert sorted(path.stem for path in VERSIONS.glob("*.db")) == EARLIER_REVISIONS


def test_an_upgrade_keeps_every_row(old: Path) -> None:
    before = rows(old)
    assert len(before["epochs"]) >= 8
    backup = upgrade_database(str(old))
    assert backup is not None
    assert rows(backup) == before
    after = rows(old)
    leases = before.get("claims", before.get("leases"))
    assert [[*row.values()] for row in after["leases"]] == [[*row.values()] for row in leases or ()]
    for table in before.keys() - {migrations.TABLE, "claims", "measurements"}:
        kept = [
            {name: row[name] for name in first}
            for row, first in zip(after[table], before[table], strict=True)
        ]
        assert kept == before[table]
    assert upgrade_database(str(old)) is None
    assert sorted(path.name for path in old.parent.iterdir()) == [old.name, backup.name]


def test_an_upgraded_database_is_sound(old: Path) -> None:
    upgrade_database(str(old))
    database = open_database(str(old), create=False)
    assert list(database_findings(database)) == []
    with database.reading() as session:
        context = MigrationContext.configure(session.connection())
        assert compare_metadata(context, Base.metadata) == []
    states = [run.state for run in all_runs(database)]
    assert states == [State.FINISHED] * 4 + [State.DIVERGED, State.RUNNING]
    first, second = run_detail(database, 1).epochs
    assert math.isnan(first["test_loss"])  # type: ignore[arg-type]
    assert second["test_loss"] == math.inf


@pytest.mark.parametrize(
    ("data", "images"),
    [
        ({"dataset": "digits"}, 355),
        ({"dataset": "cifar100"}, 10_000),
        ({"dataset": "folder:mine", "content_hash": "0" * 64}, None),
        ({"dataset": "imagenet"}, None),  # it depends on --skip-damaged
    ],
)
def test_numbers_of_test_images_come_from_the_data(
    data: dict[str, str], images: int | None, tmp_path: Path
) -> None:
    """Not from an option of the attention that is named like it."""
    path = tmp_path / "old.db"
    path.write_bytes((VERSIONS / "0007.db").read_bytes())
    with closing(sqlite3.connect(path)) as connection, connection:
        (content,) = connection.execute(
            "select json from specs join runs using (spec_id) where runs.id = 1"
        ).fetchone()
        fields = json.loads(content)
        fields["data"] |= data
        fields["model"]["attention"] = {"kind": "mine", "dataset": "digits"}
        content = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        connection.execute("insert into specs values (?, ?)", (spec_id_of(content), content))
        connection.execute("update runs set spec_id = ? where id = 1", (spec_id_of(content),))
    upgrade_database(str(path))
    with closing(open_database(str(path), create=False)) as database:
        assert run_detail(database, 1).summary.test_images == images


def test_an_old_database_is_refused_unchanged(old: Path) -> None:
    before = old.read_bytes()
    for create in (True, False):
        with pytest.raises(ForeignDatabaseError, match="run 'dia-repro db upgrade'"):
            open_database(str(old), create=create)
    assert old.read_bytes() == before


def test_a_full_disk_stops_the_upgrade(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = old.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BackupError, match="No space left"):
        upgrade_database(str(old))
    assert old.read_bytes() == before
    assert list(old.parent.iterdir()) == [old]


def kill_this_process(_file: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_copies_of_killed_processes_are_removed(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = old.with_name("other.db")
    open_database(str(database), create=True).close()
    for work in (lambda: upgrade_database(str(old)), lambda: copy_of(database, "killed.db")):
        with monkeypatch.context() as patch:
            patch.setattr(upgrade, "flush_file", kill_this_process)
            process = get_context("fork").Process(target=work)
            process.start()
            process.join()
        assert process.exitcode == -signal.SIGKILL
        assert len(list(old.parent.glob(".*.partial"))) == 1
    copy_of(database, "copy.db")
    found = sorted(path.name for path in old.parent.iterdir())
    assert found == ["copy.db", "other.db", "runs.db"]


def copy_of(path: Path, name: str) -> None:
    with closing(open_database(str(path), create=False)) as database:
        back_up(database, path.with_name(name))


@pytest.mark.postgres
@pytest.mark.parametrize("revision", EARLIER_REVISIONS)
def test_postgres_is_copied_and_upgraded(
    revision: str, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    engine = create_engine(postgres)
    with engine.begin() as connection:
        migrations.migrate(connection, revision)
        spec = {"id": tiny_spec().spec_id, "json": tiny_spec().canonical_json()}
        connection.execute(text("insert into specs values (:id, :json)"), spec)
        values = f"1, '{'0' * 32}', :id, 0, 'diverged', null, null, 7, now(), now()"
        connection.execute(text(f"insert into runs values ({values})"), {"id": spec["id"]})
        connection.execute(text("insert into epochs values (1, 1, 0.1, 'nan', 2, '-inf', 4, 5)"))
    engine.dispose()
    backup = upgrade_database(postgres)
    assert backup == Path("runs.db.before-upgrade-1")
    assert rows(backup)[migrations.TABLE] == [{"version_num": revision}]
    upgrade_database(str(backup))
    for location in (postgres, str(backup)):
        database = open_database(location, create=False)
        (epoch,) = run_detail(database, 1).epochs
        assert (repr(epoch["train_loss"]), epoch["train_top1"]) == ("nan", 2.0)
        assert epoch["test_loss"] == -math.inf
        database.close()


def test_a_backup_of_each_backend_is_the_same_database(location: str, tmp_path: Path) -> None:
    upgraded = tmp_path / "upgraded.db"
    upgraded.write_bytes((VERSIONS / "0005.db").read_bytes())
    upgrade_database(str(upgraded))
    source = open_database(str(upgraded), create=False)
    target = open_database(location, create=True)
    copy = tmp_path / "copy.db"
    back_up(target, copy)
    assert all_runs(open_database(str(copy), create=False)) == ()
    backends.check_place(copy)
    with pytest.raises(BackupExistsError, match="exists"):
        back_up(source, copy)
    target.close()


def test_a_folder_that_stays_locked_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "LOCK_SECONDS", 0.1)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with (
            closing(open_database(str(tmp_path / "runs.db"), create=True)) as database,
            pytest.raises(LockedError, match=f"{tmp_path} is locked by another process"),
        ):
            back_up(database, tmp_path / "copy.db")
    finally:
        os.close(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["runs.db"]


@pytest.mark.parametrize("links", [True, False])
def test_one_of_several_backups_to_one_name_succeeds(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not links:  # as on exFAT
        monkeypatch.setattr(os, "link", refuse)
    source = tmp_path / "source.db"
    source.write_bytes((VERSIONS / "0005.db").read_bytes())
    upgrade_database(str(source))
    together = threading.Barrier(4)

    def attempt(_: int) -> str:
        with closing(open_database(str(source), create=False)) as database:
            together.wait()
            try:
                back_up(database, tmp_path / "copy.db")
            except BackupExistsError as error:
                return str(error)
        return "done"

    with ThreadPoolExecutor(4) as pool:
        outcomes = sorted(pool.map(attempt, range(4)))
    assert outcomes == sorted(
        ["done"] + [f"{tmp_path / 'copy.db'} exists: a backup overwrites nothing"] * 3
    )
    assert open_database(str(tmp_path / "copy.db"), create=False)
    assert not list(tmp_path.glob(".*"))


def test_a_folder_whose_name_is_no_utf8_can_be_worked_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path / "d") + b"\xe9"))
    folder.mkdir()
    (folder / "runs.db").write_bytes((VERSIONS / f"{EARLIER_REVISIONS[-1]}.db").read_bytes())
    monkeypatch.chdir(folder)
    assert upgrade_database("runs.db") == Path("runs.db.before-upgrade-1")
    with closing(open_database("runs.db", create=False)) as database:
        assert len(all_runs(database)) == 6
        back_up(database, Path("copy.db"))
    assert len(rows(Path("copy.db"))["runs"]) == 6


@pytest.mark.parametrize("suffix", ["-journal", "-wal"])
def test_what_another_database_left_is_not_taken_into_a_new_one(
    suffix: str, tmp_path: Path
) -> None:
    """SQLite would roll it back into the new file: pages of both would be mixed."""
    database = open_database(str(tmp_path / "ours.db"), create=True)
    place, left = tmp_path / "runs.db", tmp_path / f"runs.db{suffix}"
    left.write_bytes(b"pages")
    with pytest.raises(ForeignDatabaseError, match=f"{left.name} is left of another database"):
        back_up(database, place)
    with pytest.raises(ForeignDatabaseError, match=f"{left.name} is left of another database"):
        open_database(str(place), create=True)
    assert not place.exists()
    assert left.read_bytes() == b"pages"
    left.unlink()
    back_up(database, place)
    assert place.exists()


@pytest.mark.parametrize("revision", [EARLIER_REVISIONS[-1], REVISION])
def test_a_database_that_migrations_do_not_reach_is_refused(revision: str, tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    if revision == REVISION:
        open_database(str(path), create=True).close()
    else:
        path.write_bytes((VERSIONS / f"{revision}.db").read_bytes())
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("alter table provenance drop column host")
        connection.commit()
    with pytest.raises(ForeignDatabaseError, match="of no version that can be upgraded"):
        upgrade_database(str(path))
    with closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute("select version_num from alembic_version").fetchone()
    assert found == revision
