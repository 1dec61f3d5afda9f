"""Processes that die during a training or an upgrade, or next to other runs."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import sqlite3
import tempfile
import time
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.measurements import CheckResult
from benchmarks.storage.tiny import spec_of, tiny_jobs, train, trained
from dia_repro.execution import forkserver, worker
from dia_repro.execution.messages import Job, Outcome
from dia_repro.results import backends, migrations
from dia_repro.results.database import open_database
from dia_repro.results.migrations import EARLIER_REVISIONS
from dia_repro.results.queries import all_runs
from dia_repro.results.schema import State
from dia_repro.results.upgrade import upgrade_database

EPOCHS, SLOTS = 8, 2
MOMENTS = ("any", "batch", "write", "commit")


def killed_trainings(kills: int) -> CheckResult:
    """Kill trainings repeatedly, let them finish, and compare them with undisturbed ones."""
    seeds = max(2, kills // 4)
    rng = random.Random(0)
    done = 0
    with tempfile.TemporaryDirectory() as disturbed, tempfile.TemporaryDirectory() as quiet:
        expected = trained(Path(quiet), seeds, EPOCHS, SLOTS)
        database, jobs = tiny_jobs(Path(disturbed), seeds, EPOCHS)
        for number in range(4 * kills):
            if done < kills:
                done += _kill_once(jobs[number % seeds], MOMENTS[number % len(MOMENTS)], rng)
        database.close()
        found = trained(Path(disturbed), seeds, EPOCHS, SLOTS)
    same = sum(found[seed].same(expected[seed]) for seed in expected)
    attempts = sum(outcome.attempts for outcome in found.values())
    return CheckResult(
        f"{done} times SIGKILL while training: at any moment, in a batch, in a checkpoint's "
        "write, between checkpoint and commit",
        f"in {attempts} attempts; after reruns {same} of {seeds} trainings have the same weights "
        "and rows as undisturbed ones",
        same == seeds and done == kills,
    )


def _kill_once(job: Job, moment: str, rng: random.Random) -> bool:
    """Return whether the training was killed; it may have finished before."""
    process, ours = forkserver.start_process(_train_until, job, moment, rng.randint(1, 3))
    if moment == "any":
        time.sleep(rng.uniform(0, 1.5))
        process.kill()
    process.join()
    ours.close()
    return process.exitcode == -signal.SIGKILL


def _train_until(job: Job, moment: str, count: int, connection: Connection) -> None:
    """Train, and kill this process the count-th time that the moment comes."""
    from dia_repro import atomic
    from dia_repro.results import writer
    from dia_repro.training.trainer import Trainer

    if moment == "batch":
        _die_in(Trainer, "train", 5 * count)
    elif moment == "write":  # the bytes are in a file without its name
        _die_in(atomic, "flush_file", count)
    elif moment == "commit":
        _die_in(writer, "record_epoch", count)
    worker.main(job, connection)


def _die_in(owner: object, name: str, count: int) -> None:
    real = getattr(owner, name)
    calls = [0]

    def dying(*arguments: object, **named: object) -> object:
        calls[0] += 1
        if calls[0] == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)

    setattr(owner, name, dying)


def broken_among(runs: int) -> CheckResult:
    """Let some of many runs raise, crash, be killed or run out of memory; the others finish."""
    with tempfile.TemporaryDirectory() as folder:
        database, jobs = tiny_jobs(Path(folder), runs, 1)
        ended = train(database, jobs, SLOTS, train=_train_or_break)
        states = [run.state for run in all_runs(database)]
        reasons = [run.reason for run in all_runs(database) if run.state is State.FAILED]
        database.close()
    failed = sum(end.outcome is Outcome.FAILED for end in ended.values())
    broken = len(_BREAKAGES)
    return CheckResult(
        f"{broken} of {runs} runs raise, crash, are killed or run out of memory",
        f"{failed} failed, {states.count(State.FINISHED)} finished; reasons: "
        + "; ".join(str(reason) for reason in reasons),
        failed == broken and states.count(State.FINISHED) == runs - broken and all(reasons),
    )


def _raise() -> None:
    raise ZeroDivisionError("on purpose")


def _crash() -> None:
    ctypes.string_at(0)


def _exhaust() -> None:
    raise MemoryError("on purpose")


def _be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


_BREAKAGES = (_raise, _crash, _exhaust, _be_killed)


def _train_or_break(job: Job, connection: Connection) -> None:
    if job.run_id <= len(_BREAKAGES):
        from dia_repro.training.trainer import Trainer

        # During the work, as real failures.
        Trainer.evaluate = lambda *_: _BREAKAGES[job.run_id - 1]()  # type: ignore[assignment, method-assign]
    worker.main(job, connection)


def killed_upgrades(kills: int, rows: int = 20_000) -> CheckResult:
    """Kill upgrades from the first version at random moments."""
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.db"
        _make_first_version(path, rows)
        before = path.read_bytes()
        rows_before = _rows(path)
        begun = time.perf_counter()
        upgrade_database(str(path))
        whole = time.perf_counter() - begun
        kept = 0
        for _ in range(kills):
            for file in Path(folder).iterdir():
                file.unlink()
            path.write_bytes(before)
            process = forkserver.CONTEXT.Process(target=upgrade_database, args=(str(path),))
            process.start()
            time.sleep(rng.uniform(0, 1.2 * whole))
            process.kill()
            process.join()
            kept += _rows(path) == rows_before and _opens_after_upgrade(path)
    return CheckResult(
        f"{kills} times SIGKILL while a database of the first version is upgraded",
        f"{kept} times all {rows:,} rows were there, in the old version or the new one, and a "
        "second upgrade came through",
        kept == kills,
    )


def _make_first_version(path: Path, rows: int) -> None:
    engine = backends.make_engine(str(path), create=True)
    with backends.writers_of(engine).begin() as connection:
        migrations.migrate(connection, EARLIER_REVISIONS[0])
    engine.dispose()
    with closing(sqlite3.connect(path)) as file, file:
        moment = "2026-01-01 00:00:00"
        spec = spec_of(1)
        file.execute("insert into specs values (?, ?)", (spec.spec_id, spec.canonical_json()))
        run = (1, "0" * 32, spec.spec_id, 0, "interrupted", None, None, 7, moment, moment)
        file.execute("insert into runs values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", run)
        file.executemany(
            "insert into epochs values (1, ?, 0.1, 1.0, 2.0, 3.0, 4.0, 5.0)",
            ((epoch,) for epoch in range(1, rows + 1)),
        )


def _rows(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return [
            row
            for table in ("specs", "runs", "epochs")
            for row in connection.execute(f"select * from {table}")  # noqa: S608
        ]


def _opens_after_upgrade(path: Path) -> bool:
    upgrade_database(str(path))
    database = open_database(str(path), create=False)
    try:
        return len(all_runs(database)) == 1
    finally:
        database.close()
