"""Writes of a run while others write, and to a database that was removed."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import select

from dia_repro import interrupts
from dia_repro.execution import run_store as run_stores
from dia_repro.execution.run_store import RunStore
from dia_repro.results import backends, writer
from dia_repro.results.database import (
    Database,
    DatabaseError,
    LockedError,
    VanishedError,
    open_database,
)
from dia_repro.results.schema import RunRow
from tests.helpers import clean_environment
from tests.results.rows import PROVENANCE


@contextmanager
def held(database: Database, seconds: float) -> Iterator[None]:
    """Another writer holds the lock for some seconds."""
    taken = threading.Event()

    def hold() -> None:
        with database.writing() as session:
            session.execute(select(RunRow.id))
            taken.set()
            threading.Event().wait(seconds)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()
    yield
    thread.join()


@pytest.mark.slow
def test_a_run_waits_longer_than_one_try(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "BUSY_SECONDS", 1)
    (run,) = writer.ensure_runs(database, {"1-a": "{}"}, [0]).values()
    run_store = RunStore(database)
    lease = run_store.take(run, "me", "here", PROVENANCE)
    with held(database, 2.5):
        with pytest.raises(LockedError):
            writer.set_parameters(database, lease, 6)
        run_store.set_parameters(lease, 7)
    assert run_store.run_detail(run).summary.parameters == 7
    monkeypatch.setattr(run_stores, "PATIENCE_SECONDS", 0.1)
    with held(database, 2.5), pytest.raises(LockedError):
        run_store.set_parameters(lease, 8)
    with held(database, 2.5), pytest.raises(LockedError):
        run_store.renew(lease)


def test_a_stop_ends_the_wait_for_others(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "ONE_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(interrupts, "STOPPING_SECONDS", 0.3)
    (run,) = writer.ensure_runs(database, {"1-a": "{}"}, [0]).values()
    run_store = RunStore(database)
    lease = run_store.take(run, "me", "here", PROVENANCE)
    with held(database, 3.0):
        begun = time.monotonic()
        threading.Timer(0.3, interrupts.note_wish).start()
        with pytest.raises(LockedError):
            run_store.set_parameters(lease, 8)
        assert 0.3 < time.monotonic() - begun < 2.5
    interrupts.note_wish(asked=False)
    run_store.set_parameters(lease, 9)
    assert run_store.run_detail(run).summary.parameters == 9


def test_ctrl_c_ends_a_waiting_command(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    open_database(str(path), create=True).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin exclusive")
        command = [sys.executable, "-m", "dia_repro", "runs", "list"]
        with subprocess.Popen(command, cwd=tmp_path, env=clean_environment()) as process:
            while path not in opened_by(process.pid):
                assert process.poll() is None
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 130


def opened_by(pid: int) -> set[Path]:
    """The files that a process has open."""
    with suppress(OSError):  # one may be closed meanwhile
        return {link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()}
    return set()


def test_removed_file_is_missed_and_not_created_again(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    database = open_database(str(path), create=True)
    database.check_there()
    path.rename(tmp_path / "elsewhere.db")
    with pytest.raises(VanishedError, match=r"runs\.db is gone \(there is no such file any more\)"):
        database.check_there()
    with pytest.raises(DatabaseError, match="unable to open database file"):
        writer.ensure_runs(database, {"1-a": "{}"}, [0])
    assert not path.exists()
    (tmp_path / "elsewhere.db").rename(path)
    database.check_there()
    database.close()
