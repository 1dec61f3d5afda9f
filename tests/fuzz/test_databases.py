"""Files that are no database, or were one: refused in a line, left as they are."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import strategies as st

from dia_repro.execution import estimates
from dia_repro.results import writer
from dia_repro.results.database import open_database
from tests.fuzz.commands import check_outcome, draw_here, run_command
from tests.fuzz.settings import fuzz, quick, thorough
from tests.helpers import tiny_spec

COMMANDS = [
    ("runs", "list"),
    ("runs", "show", "1"),
    ("show", "table5"),
    ("report", "table5", "--no-html"),
    ("plan", "table5", "--protocol", "demo", "--only", "SENet ResNet83"),
    ("db", "upgrade"),
    ("db", "check"),
    ("db", "merge", "runs.db", "--db", "new.db"),
]


@pytest.fixture
def sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A database with a run."""
    monkeypatch.setattr(estimates, "seconds_per_image", lambda *_: 1e-3)
    draw_here(monkeypatch)
    path = tmp_path / "sound.db"
    spec = tiny_spec()
    database = open_database(str(path), create=True)
    writer.ensure_runs(database, {spec.spec_id: spec.canonical_json()}, [0])
    database.close()
    return path.read_bytes()


def check_file(place: Path, content: bytes) -> None:
    """Every command ends as it should, and leaves the file alone."""
    here = place / "here"
    for command in COMMANDS:
        shutil.rmtree(here, ignore_errors=True)
        here.mkdir()
        (here / "runs.db").write_bytes(content)
        check_outcome(run_command(*command, cwd=here), command)
        assert (here / "runs.db").read_bytes() == content, command
        written = {path.name for path in here.iterdir()} - {
            "runs.db",
            "new.db",
            "tables",
            "figures",
        }
        assert not written, command


@pytest.mark.slow
def test_a_truncated_database(tmp_path: Path, sound: bytes) -> None:
    pages = [1, 2, 15, 16, 17, 99, 100, 101, 4095, 4096, 4097, len(sound) // 2, len(sound) - 1]
    for length in pages:
        check_file(tmp_path, sound[:length])


@pytest.mark.exhaustive
def test_a_database_truncated_anywhere(tmp_path: Path, sound: bytes) -> None:
    lengths = st.integers(1, len(sound) - 1)
    fuzz(thorough(300), lengths, lambda length: check_file(tmp_path, sound[:length]))


def test_bytes_flipped_anywhere(tmp_path: Path, sound: bytes) -> None:
    places = st.lists(st.integers(0, len(sound) - 1), min_size=1, max_size=40)

    def check(flipped: list[int]) -> None:
        content = bytearray(sound)
        for place in flipped:
            content[place] ^= 0xFF
        check_file(tmp_path, bytes(content))

    fuzz(quick(2), places, check)


@pytest.mark.parametrize(
    "statement",
    [
        "update runs set state = 'nonsense'",
        "delete from specs",
        "update specs set json = x'ff'",
        *(
            pytest.param(statement, marks=pytest.mark.exhaustive)
            for statement in (
                "update runs set created_at = 'nonsense'",
                "update specs set json = '[]'",
                "update runs set seed = 'nonsense'",
            )
        ),
    ],
)
def test_rows_that_were_never_written(tmp_path: Path, sound: bytes, statement: str) -> None:
    path = tmp_path / "odd.db"
    path.write_bytes(sound)
    with sqlite3.connect(path) as connection:
        connection.execute("pragma ignore_check_constraints = on")
        connection.execute(statement)
    connection.close()
    check_file(tmp_path, path.read_bytes())


@pytest.mark.parametrize("noise", [b"text\n", b"SQLite format 3\0", b"\0" * 5000, b"<html>"])
def test_a_file_of_another_kind(tmp_path: Path, sound: bytes, noise: bytes) -> None:
    check_file(tmp_path, noise)


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("create table customers (name text)")


@pytest.mark.parametrize("make", [foreign, os.mkdir, os.mkfifo], ids=["foreign", "folder", "pipe"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_something_else_in_its_place(
    make: Callable[[Path], None], command: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "runs.db"
    make(path)
    before = path.stat()
    outcome = run_command(*command, cwd=tmp_path)
    check_outcome(outcome, command)
    assert outcome.code in {1, 2}
    assert len(outcome.complaints) == 1
    after = path.stat()
    assert (after.st_mode, after.st_size, after.st_ino) == (
        before.st_mode,
        before.st_size,
        before.st_ino,
    )
    assert list(tmp_path.iterdir()) == [path]
