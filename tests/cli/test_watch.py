"""`runs watch` beside a process that trains."""

from __future__ import annotations

import codecs
import csv
import io
import os
import pty
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from dia_repro.cli.watch import Watcher, seconds_left
from dia_repro.rendering.listing import sparkline
from dia_repro.results import writer
from dia_repro.results.database import Database, open_database
from dia_repro.results.histories import UnderWay
from dia_repro.results.leases import Lease
from dia_repro.results.schema import State, now
from tests.helpers import clean_environment, cli
from tests.results.rows import SPEC, begin, ensure, epoch


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return open_database(str(tmp_path / "runs.db"), create=True)


@contextmanager
def watching(
    folder: Path, *arguments: str
) -> Iterator[tuple[Callable[[str], str], subprocess.Popen[bytes]]]:
    """The command in a terminal of its own; gives what waits for a text on it."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "dia_repro", "runs", "watch", "--every", "0.2", *arguments]
    environment = clean_environment(COLUMNS="120", LINES="30", TERM="xterm")
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    seen = ""
    decoder = codecs.getincrementaldecoder("utf-8")()  # a read may end within a character

    def wait_for(text: str) -> str:
        nonlocal seen
        until = time.monotonic() + 60
        while text not in seen:
            assert time.monotonic() < until, f"{text!r} does not come: {seen}"
            if select.select([ours], [], [], 0.5)[0]:
                try:
                    seen += decoder.decode(os.read(ours, 65536))
                except OSError:  # it has ended
                    assert text in seen, seen
        before, seen = seen, ""
        return before

    try:
        yield wait_for, process
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def end(database: Database, lease: Lease, state: State = State.FINISHED) -> None:
    writer.end(database, lease, state, wall_seconds=1.0, peak_memory_bytes=1)


def test_watch_follows_another_process_and_ends_after_the_last_run(
    database: Database, tmp_path: Path
) -> None:
    first, second = ensure(database, 2)
    lease = begin(database, first)
    with watching(tmp_path) as (wait_for, process):
        wait_for("1 running, 1 pending, 0 finished")
        writer.record_epoch(database, lease, epoch(1, 41.25))
        writer.record_epoch(database, lease, epoch(2, 73.5))
        assert "▁█" in wait_for("73.50")
        # Between two looks nothing is held that a writer would have to wait for.
        with sqlite3.connect(tmp_path / "runs.db", timeout=1.0) as writing:
            writing.execute("begin exclusive")
        end(database, lease)
        wait_for("0 running, 1 pending, 1 finished")
        end(database, begin(database, second), State.DIVERGED)
        wait_for("0 running, 0 pending, 1 finished, 1 diverged")
        assert process.wait(timeout=30) == 0


def test_a_database_that_is_moved_away_is_said_and_waited_for(
    database: Database, tmp_path: Path
) -> None:
    lease = begin(database, ensure(database)[0])
    database.close()
    with watching(tmp_path) as (wait_for, process):
        wait_for("1 running")
        (tmp_path / "runs.db").rename(tmp_path / "moved.db")
        wait_for("there is no database runs.db")
        assert process.poll() is None
        (tmp_path / "moved.db").rename(tmp_path / "runs.db")
        end(open_database(str(tmp_path / "runs.db"), create=False), lease)
        wait_for("0 running, 0 pending, 1 finished")
        assert process.wait(timeout=30) == 0


def test_ctrl_c_ends_it_quietly(database: Database, tmp_path: Path) -> None:
    with watching(tmp_path, "--forever") as (wait_for, process):
        wait_for("0 running")
        time.sleep(1.0)
        assert process.poll() is None
        ensure(database, 1)
        wait_for("1 pending")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0


def test_watch_without_a_terminal_prints_once(database: Database, tmp_path: Path) -> None:
    (run,) = ensure(database)
    lease = begin(database, run)
    writer.record_epoch(database, lease, epoch(1, 41.25))
    before = (tmp_path / "runs.db").read_bytes()
    looked = cli("runs", "watch", cwd=tmp_path)
    assert (looked.returncode, looked.stderr) == (0, "")
    assert "1 running, 0 pending, 0 finished, 0 diverged, 0 failed, 0 interrupted" in looked.stdout
    assert "41.25" in looked.stdout
    assert "\x1b" not in looked.stdout
    read = cli("runs", "watch", "--format", "csv", cwd=tmp_path).stdout
    (record,) = csv.DictReader(io.StringIO(read))
    assert (record["run"], record["epochs_done"], record["epochs"]) == (str(run), "1", "3")
    assert 2.0 <= float(record["seconds_left"]) <= 4.0
    assert (tmp_path / "runs.db").read_bytes() == before


def test_without_a_database_there_is_nothing_to_watch(tmp_path: Path) -> None:
    looked = cli("runs", "watch", cwd=tmp_path)
    assert looked.stdout.startswith("0 running, 0 pending")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moved", [timedelta(days=-300), timedelta(hours=2)])
def test_clocks_of_other_machines_are_not_read(
    moved: timedelta, database: Database, tmp_path: Path
) -> None:
    (run,) = ensure(database)
    lease = begin(database, run)
    writer.record_epoch(database, lease, epoch(1, 41.25))
    there = (now() + moved).isoformat(sep=" ")
    with sqlite3.connect(tmp_path / "runs.db") as connection:
        connection.execute("update runs set changed_at = ?", (there,))
    read = cli("runs", "watch", "--format", "csv", cwd=tmp_path).stdout
    (record,) = csv.DictReader(io.StringIO(read))
    assert (record["silent_seconds"], float(record["seconds_left"])) == ("", 4.0)


RUN = UnderWay(1, SPEC.canonical_json(), 0, "me", 5, (10.0, 20.0), (4.0, 6.0))


def test_silence_is_measured_from_the_last_change_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: moment[0])
    watcher = Watcher()

    def silent(seconds: float, run: UnderWay) -> object:
        moment[0] += seconds
        return watcher.record(run)["silent_seconds"]

    assert silent(0, RUN) is None
    assert silent(60, RUN) is None
    assert silent(1, RUN) == 61
    assert silent(10, replace(RUN, beats=6)) is None
    assert silent(60, replace(RUN, beats=6)) is None
    assert silent(2, replace(RUN, beats=6)) == 62
    later = replace(RUN, beats=6, top1=(10.0, 20.0, 30.0))
    assert silent(0, later) is None
    assert silent(61, later) == 61


def test_runs_without_a_lease_are_silent_too(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: moment[0])
    watcher, run = Watcher(), replace(RUN, beats=None)
    assert watcher.look(run)[0] is None
    moment[0] = 61
    assert watcher.look(run)[0] == 61


def test_time_left_is_at_the_pace_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seconds_left(RUN, 5, 0) == 15
    assert seconds_left(RUN, 5, 2) == 13
    assert seconds_left(RUN, 5, 7200) == 10
    assert seconds_left(replace(RUN, seconds=()), 5, 0) is None
    moment = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: moment[0])
    watcher = Watcher()
    assert watcher.look(RUN)[1] == 0
    moment[0] = 3
    assert watcher.look(replace(RUN, beats=6))[1] == 3
    assert watcher.look(replace(RUN, top1=(1.0, 2.0, 3.0)))[1] == 0


def test_a_sparkline_goes_from_the_lowest_to_the_highest() -> None:
    assert sparkline([10, 20, 30, 80], 8) == "▁▂▃█"
    assert sparkline([10, 20, 30, 80], 8, plain=True) == "_.-@"
    assert sparkline(list(range(180)), 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([50, 50], 8) == "▄▄"
    assert sparkline([1, float("nan"), 2], 8) == "▁×█"
    assert sparkline([float("nan")], 8) == "×"
    assert sparkline([], 8) == ""
