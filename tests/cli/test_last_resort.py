"""Errors that nothing expects, and texts in a database that were never written by us."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dia_repro.analysis.gradients import records_of
from dia_repro.analysis.stored import stored_integrations
from dia_repro.results import writer
from dia_repro.results.database import Database, DatabaseError, open_database
from dia_repro.results.parts import Settings, Source
from dia_repro.results.queries import run_detail
from dia_repro.results.schema import GRADIENTS_SETTINGS
from tests.helpers import clean_environment, cli, one_line
from tests.results.rows import SPEC, begin, binned, ensure

DEEP = "[" * 100_000
SETTINGS = Settings(1, Source.TRAINED, 10, 2, 0, False).canonical_json()
SCRIPT = """
import os, signal, sys, threading
from dia_repro import interrupts
from dia_repro.cli import main

def fork(): raise BlockingIOError(11, "Resource temporarily unavailable")
def thread():
    threading.stack_size(1 << 46)
    threading.Thread().start()
def again(): again()
def memory(): raise MemoryError
def library(): raise ImportError("Please read this:\\n lib.so: failed to map segment\\nas above")
def missing(): import no_such_library
class Final:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        len("here the signal's exception comes up")
def final():
    interrupts.install()
    Final()
def named(): raise LookupError("at db://me:ge/heim@host/d\\nsecond line")

@main.app.command()
def fails(): {cause}()

sys.argv = ["dia-repro", "fails"]
main.main()
"""


def fails(cause: str, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command with a bug."""
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(cause=cause)],
        env=clean_environment(**{"TMPDIR": str(tmp_path), **environment}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("cause", ["fork", "thread"])
def test_too_many_processes_are_no_bug(cause: str, tmp_path: Path) -> None:
    done = fails(cause, tmp_path)
    assert done.returncode == 3, done.stderr
    assert "no more processes or threads can be started" in done.stderr
    assert one_line(done.stderr)


@pytest.mark.parametrize(
    ("cause", "words"),
    [("memory", "see 'ulimit -v'"), ("library", "see 'ulimit -v' (lib.so: failed to map segment)")],
)
def test_too_little_memory_is_no_bug(cause: str, words: str, tmp_path: Path) -> None:
    done = fails(cause, tmp_path)
    assert (done.returncode, one_line(done.stderr)) == (3, True), done.stderr
    assert done.stderr.endswith(f"not enough memory, or too little is allowed: {words}\n")


@pytest.mark.parametrize(
    ("cause", "name"),
    [("again", "RecursionError"), ("named", "LookupError"), ("missing", "ModuleNotFoundError")],
)
def test_unexpected_error_is_one_line_and_a_private_file(
    cause: str, name: str, tmp_path: Path
) -> None:
    done = fails(cause, tmp_path)
    (file,) = tmp_path.iterdir()
    assert (done.returncode, one_line(done.stderr), done.stdout) == (1, True, ""), done.stderr
    assert done.stderr.startswith(f"dia-repro: {name}")
    assert f"finds damage; the traceback is in {file}" in done.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    trace = file.read_text()
    assert trace.startswith("Traceback")
    assert name in trace
    assert "heim" not in trace + done.stderr


def test_an_interruption_in_a_finalizer_is_one_line(tmp_path: Path) -> None:
    done = fails("final", tmp_path)
    assert (done.returncode, done.stderr) == (130, "dia-repro: interrupted\n")


def test_unexpected_error_without_a_temporary_folder_is_one_line(tmp_path: Path) -> None:
    code = "import tempfile; tempfile.tempdir = '/proc/nowhere'\n"
    done = subprocess.run(
        [sys.executable, "-c", code + SCRIPT.format(cause="again")],
        env=clean_environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, one_line(done.stderr)) == (1, True), done.stderr
    assert "this is a bug" in done.stderr


@pytest.fixture
def analysed(tmp_path: Path) -> Callable[[str, str], tuple[Database, int]]:
    """A run with an analysis of these settings and with this part."""

    def make(settings: str, part: str) -> tuple[Database, int]:
        database = open_database(str(tmp_path / "runs.db"), create=True)
        (run,) = ensure(database)
        uid = run_detail(database, run).summary.uid
        writer.record_part(database, uid, settings, "{}", 2, part, 1.0)
        return database, run

    return make


@pytest.mark.parametrize(
    "part",
    [
        DEEP,
        "",
        "nonsense",
        "{}",
        '{"layers": 2, "samples": 1}',
        '{"layers": 2, "samples": 1, "shares": [[1], [0.5, 0.5]]}',
        '{"layers": 2, "samples": 1, "shares": [[0.5, 0.5]]}',
        '{"layers": 2, "samples": 1, "shares": []}',
        '{"layers": 2, "samples": 1, "shares": [[NaN]]}',
        '{"layers": 1, "samples": 1, "shares": [[1]]}',
    ],
)
def test_analysis_that_cannot_be_read_is_named(
    part: str, analysed: Callable[[str, str], tuple[Database, int]]
) -> None:
    database, run = analysed(SETTINGS, part)
    with pytest.raises(DatabaseError, match=r"runs\.db is damaged"):
        stored_integrations(database, [run])


@pytest.mark.parametrize("settings", [DEEP, "{}", '{"kind": "gini"}'])
def test_settings_that_cannot_be_read_are_named(
    settings: str, analysed: Callable[[str, str], tuple[Database, int]]
) -> None:
    database, run = analysed(settings, "{}")
    with pytest.raises(DatabaseError, match=r"runs\.db is damaged"):
        stored_integrations(database, [run])


RECORD = {
    "count": 2,
    "zeros": 0,
    "not_finite": 0,
    "mean": 1.0,
    "variance": 0.0,
    "quantiles": [1.0] * 7,
    "histogram": binned(2, 1.0),
}
SHORT = [{**RECORD, "quantiles": [1.0]}, {**RECORD, "histogram": [1]}, {**RECORD, "count": 0}]


def test_sound_analyses_are_read(analysed: Callable[[str, str], tuple[Database, int]]) -> None:
    """What the cases above and below are variants of."""
    database, run = analysed(SETTINGS, '{"layers": 2, "samples": 1, "shares": [[1], [1]]}')
    assert stored_integrations(database, [run])[run][Source.TRAINED, 1][0].shares[2].shape == (2, 1)
    uid = run_detail(database, run).summary.uid
    writer.record_part(database, uid, GRADIENTS_SETTINGS, "{}", 0, json.dumps([RECORD] * 3), 1.0)
    assert records_of(database, run, SPEC) == {0: [RECORD] * 3}


@pytest.mark.parametrize(
    "part",
    [
        DEEP,
        "",
        "{}",
        "[1]",
        "[]",
        "[{}]",
        json.dumps([RECORD]),
        *(json.dumps([record] * 3) for record in SHORT),
    ],
)
def test_gradients_that_cannot_be_read_are_named(
    part: str, analysed: Callable[[str, str], tuple[Database, int]]
) -> None:
    database, run = analysed(GRADIENTS_SETTINGS, part)
    with pytest.raises(DatabaseError, match=r"runs\.db is damaged"):
        records_of(database, run, SPEC)


def test_spec_nested_too_deeply_is_refused_in_a_line(tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "runs.db"), create=True)
    (run,) = ensure(database)
    begin(database, run)
    with database.writing() as session:
        session.connection().exec_driver_sql("update specs set json = ?", (DEEP,))
    for command in (
        ["runs", "show", str(run), "--format", "json"],
        ["runs", "list"],
        ["runs", "export", "out"],
        ["runs", "watch"],
    ):
        done = cli(*command, cwd=tmp_path)
        assert (done.returncode, one_line(done.stderr)) == (2, True), (command, done)
        assert "spec" in done.stderr
