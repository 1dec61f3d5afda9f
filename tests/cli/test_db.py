"""`db` and `runs rm`: copies, merges, checks, removal."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dia_repro.execution.executors.local import LocalSupervisor
from dia_repro.execution.machine import Slots
from dia_repro.results.database import open_database
from tests.execution.tiny_runs import make_jobs, report
from tests.helpers import cli, one_line, tiny_spec


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two trained runs."""
    folder = tmp_path_factory.mktemp("trained")
    database, orders = make_jobs(folder, [tiny_spec(epochs=1)], 2)
    LocalSupervisor(database, Slots.on_cpu(2), report).run(orders)
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "copy")
    return tmp_path / "copy"


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / "runs-checkpoints").glob("*/*/epoch-*.pt"))


def test_a_sound_database_says_so(trained: Path) -> None:
    done = cli("db", "check", cwd=trained)
    assert (done.returncode, done.stderr) == (0, "runs.db: sound.\n")


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("delete from epochs where run_id = 1", "run 1 is finished with 0 epochs"),
        ("update epochs set epoch = 2 where run_id = 1", "the last of which is epoch 2"),
        ("alter table epochs add column more", "the schema is not this version's"),
        ("delete from specs", "refers to a row of specs"),
        (
            "update specs set json = replace(json, 'fp32', 'fp8')",
            "cannot be read: spec field precision",
        ),
        (f"update specs set json = '{'[' * 100_000}'", "cannot be read: spec field the text"),
        ("update specs set json = replace(json, 'fp32', 'tf32')", "is not what its spec_id says"),
    ],
)
def test_what_is_wrong_is_named(statement: str, words: str, folder: Path) -> None:
    execute(folder / "runs.db", statement)
    done = cli("db", "check", cwd=folder)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_damaged_pages_are_found(folder: Path) -> None:
    path = folder / "runs.db"
    content = bytearray(path.read_bytes())
    with closing(sqlite3.connect(path)) as connection:
        (number,) = connection.execute(
            "select rootpage from sqlite_master where name = 'epochs'"
        ).fetchone()
    page = 4096 * (number - 1)
    content[page : page + 4096] = bytes(reversed(content[page : page + 4096]))
    path.write_bytes(content)
    done = cli("db", "check", cwd=folder)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert "sound" not in done.stderr


def test_dead_runs_and_folders_without_a_run_are_found_and_mended(folder: Path) -> None:
    execute(folder / "runs.db", "update runs set state = 'running', owner = 'me' where id = 1")
    (folder / "runs-checkpoints" / "1-0000" / "seed-0-abc").mkdir(parents=True)
    done = cli("db", "check", cwd=folder)
    assert done.returncode == 1
    assert "run 1 is marked running, but no process trains it" in done.stderr
    assert "seed-0-abc belongs to no run" in done.stderr
    mended = cli("db", "check", "--repair", cwd=folder)
    assert (mended.returncode, "run 1" in mended.stderr) == (0, True)
    assert "run 1" not in cli("db", "check", cwd=folder).stderr


def test_a_backup_is_a_database_and_overwrites_nothing(folder: Path) -> None:
    assert cli("db", "backup", "copy.db", cwd=folder).returncode == 0
    shown = [
        cli("runs", "list", "--format", "json", *where, cwd=folder).stdout
        for where in ((), ("--db", "copy.db"))
    ]
    assert shown[0] == shown[1]
    again = cli("db", "backup", "copy.db", cwd=folder)
    assert (again.returncode, one_line(again.stderr)) == (2, True)
    nowhere = cli("db", "backup", "no/such/copy.db", cwd=folder)
    assert (nowhere.returncode, one_line(nowhere.stderr)) == (3, True)
    assert not list(folder.glob(".*partial"))


def test_merging_from_the_command_line(folder: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    other = str(folder / "runs.db")
    done = cli("db", "merge", other, cwd=fresh)
    assert (done.returncode, "2 runs added" in done.stderr) == (0, True)
    again = cli("db", "merge", other, other, cwd=fresh)
    assert (again.returncode, "0 runs added, 0 continued, 4 with" in again.stderr) == (0, True)
    execute(folder / "runs.db", "update epochs set test_top1 = 100 where run_id = 1")
    refused = cli("db", "merge", other, cwd=fresh)
    assert refused.returncode == 2
    assert (
        "DIANet ResNet11 r=4 2 cells stages 1 on digits, seed 0: other metrics from epoch 1 on"
        in refused.stderr
    )
    assert "Nothing was merged" in refused.stderr
    open_database(str(fresh / "empty.db"), create=True).close()
    rest = cli("db", "merge", other, "empty.db", "--skip-conflicts", cwd=fresh)
    assert (rest.returncode, "1 conflicts left as they were" in rest.stderr) == (0, True)
    missing = cli("db", "merge", "missing.db", cwd=fresh)
    assert (missing.returncode, one_line(missing.stderr)) == (3, True)


def test_runs_are_removed_with_all_that_belongs_to_them(folder: Path) -> None:
    refused = cli("runs", "rm", "1", cwd=folder)
    assert (refused.returncode, len(checkpoints(folder))) == (3, 2)
    assert cli("runs", "rm", "1", "--only-checkpoints", "--yes", cwd=folder).returncode == 0
    assert len(checkpoints(folder)) == 1
    assert len(cli("runs", "list", "--format", "csv", cwd=folder).stdout.splitlines()) == 3
    (within,) = (folder / "runs-checkpoints").glob("*/seed-0-*")
    done = cli("runs", "rm", "1", "2", "--yes", "--db", "../../../runs.db", cwd=within)
    assert done.returncode == 0, done.stderr
    assert not within.exists()
    assert checkpoints(folder) == []
    assert len(cli("runs", "list", "--format", "csv", cwd=folder).stdout.splitlines()) == 1
    with closing(sqlite3.connect(folder / "runs.db")) as connection:
        for table in ("specs", "epochs", "provenance", "leases"):
            assert connection.execute(f"select count(*) from {table}").fetchone() == (0,)
    unknown = cli("runs", "rm", "7", "--yes", cwd=folder)
    assert (unknown.returncode, one_line(unknown.stderr)) == (2, True)


def test_a_hostile_database_removes_nothing_outside(trained: Path, tmp_path: Path) -> None:
    """Its ids make a path that leads to somebody's documents."""
    documents = tmp_path / "me" / "docs"
    documents.mkdir(parents=True)
    (documents / "thesis.txt").write_text("years of work", encoding="utf-8")
    shutil.copy(trained / "runs.db", tmp_path / "runs.db")
    execute(tmp_path / "runs.db", f"update specs set spec_id = '{tmp_path}/me'")
    execute(tmp_path / "runs.db", f"update runs set spec_id = '{tmp_path}/me'")
    execute(tmp_path / "runs.db", "update runs set uid = '/../docs', seed = 0 where id = 1")
    execute(tmp_path / "runs.db", "update runs set uid = 'x', seed = 1 where id = 2")
    (tmp_path / "runs.db").rename(tmp_path / "hostile.db")
    for command in (
        ("runs", "rm", "1", "--yes", "--db", "hostile.db"),
        ("runs", "rm", "1", "--only-checkpoints", "--yes", "--db", "hostile.db"),
    ):
        done = cli(*command, cwd=tmp_path)
        assert (done.returncode, "was not made by dia-repro" in done.stderr) == (1, True), done
    merged = cli("db", "merge", "hostile.db", cwd=tmp_path)
    assert (merged.returncode, "nothing was merged" in merged.stderr) == (2, True), merged.stderr
    checked = cli("db", "check", "--db", "hostile.db", cwd=tmp_path)
    assert (checked.returncode, "is not what its spec_id says" in checked.stderr) == (1, True)
    assert (documents / "thesis.txt").read_text(encoding="utf-8") == "years of work"
