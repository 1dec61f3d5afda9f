"""Many processes that use one database: writers, readers, and leases of the same runs."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from sqlalchemy import func, select

from benchmarks.measurements import CheckResult
from benchmarks.storage.tiny import spec_of, tiny_jobs
from dia_repro.errors import DiaReproError
from dia_repro.execution import forkserver
from dia_repro.execution.messages import Job
from dia_repro.results import writer
from dia_repro.results.database import open_database
from dia_repro.results.leases import take
from dia_repro.results.queries import all_runs, run_detail
from dia_repro.results.schema import EpochRow, State

ROWS = 10
READERS = 2
PROVENANCE = {
    "host": "benchmarks",
    "device": "none",
    "threads": 1,
    "python": "",
    "torch": "",
    "package": "",
    "command": "python -m benchmarks storage",
    "data_sha256": "",
    "from_epoch": 0,
}


def write_and_read(location: str, writers: int, transactions: int) -> CheckResult:
    """Write `ROWS` epochs a transaction, while readers render a table in a loop."""
    database = open_database(location, create=True)
    spec = spec_of(epochs=1)
    numbers = writer.ensure_runs(
        database, {spec.spec_id: spec.canonical_json()}, range(writers)
    ).values()
    pipes = [_start(_write, location, number, transactions) for number in numbers]
    asked_to_end, ends = zip(*(forkserver.CONTEXT.Pipe() for _ in range(READERS)), strict=True)
    readers = [_start(_read, location, end) for end in ends]
    seconds: list[float] = []
    failures: list[str] = []
    for pipe in pipes:
        took, failed = _result(pipe)
        seconds += took
        failures += failed
    for pipe in asked_to_end:
        pipe.send("enough")
    looks = 0
    for pipe in readers:
        looked, failed = _result(pipe)
        looks += len(looked)
        failures += failed
    rows = sum(run.epochs for run in all_runs(database))
    database.close()
    wanted = writers * transactions
    good = not failures and len(seconds) == wanted and rows == wanted * ROWS and looks > 0
    ordered = sorted(seconds) or [0.0]
    return CheckResult(
        f"{writers} processes write {transactions} transactions of {ROWS} rows each, "
        f"{READERS} read meanwhile",
        f"{len(failures)} failures{_example(failures)}, {rows:,} rows, commit median "
        f"{1e3 * statistics.median(ordered):.0f} ms, p99 "
        f"{1e3 * ordered[int(0.99 * (len(ordered) - 1))]:.0f} ms, "
        f"worst {1e3 * ordered[-1]:.0f} ms; "
        f"{looks} tables read, none with half a transaction",
        good,
    )


def _write(connection: Connection, location: str, run: int, transactions: int) -> None:
    database = open_database(location, create=False)
    attempt = take(database, run, f"process {run}", f"place {run}", PROVENANCE)
    took: list[float] = []
    failures: list[str] = []
    for number in range(transactions):
        epochs = range(number * ROWS + 1, (number + 1) * ROWS + 1)
        begun = time.perf_counter()
        try:
            with database.writing() as session:
                session.add_all(_epoch(run, epoch) for epoch in epochs)
        except DiaReproError as error:
            failures.append(str(error))
        took.append(time.perf_counter() - begun)
    try:
        writer.end(database, attempt, State.FINISHED, wall_seconds=1.0, peak_memory_bytes=1)
    except DiaReproError as error:
        failures.append(str(error))
    connection.send((took, failures))


def _epoch(run: int, epoch: int) -> EpochRow:
    values = dict.fromkeys(("train_loss", "train_top1", "test_loss", "test_top1", "seconds"), 1.0)
    return EpochRow(run_id=run, epoch=epoch, lr=0.1, **values)


def _read(connection: Connection, location: str, asked_to_end: Connection) -> None:
    from dia_repro.artifacts import choose
    from dia_repro.artifacts.selection import Wanted, best_covered
    from dia_repro.rendering.grid import make_grid
    from dia_repro.rendering.tables import to_markdown

    database = open_database(location, create=False)
    (table,) = choose(["table5"])
    counts = select(EpochRow.run_id, func.count(), func.max(EpochRow.epoch)).group_by("run_id")
    looks: list[float] = []
    failures: list[str] = []
    while not asked_to_end.poll():
        try:
            value = table.compute(database, best_covered(table, database, Wanted()))
            to_markdown(make_grid(value))
            with database.reading() as session:
                rows = session.execute(counts).all()
            failures += [
                f"run {run} had {count} epochs up to {last}"
                for run, count, last in rows
                if count % ROWS or count != last
            ]
        except DiaReproError as error:
            failures.append(str(error))
        looks.append(1.0)
    connection.send((looks, failures))


def lease_the_same(processes: int, runs: int) -> CheckResult:
    """Let processes train the same runs, each in another order."""
    with tempfile.TemporaryDirectory() as folder:
        database, jobs = tiny_jobs(Path(folder), seeds=runs, epochs=1)
        pipes = [_start(_train_all, number, jobs) for number in range(processes)]
        trained, failures = [], []
        for pipe in pipes:
            mine, failed = _result(pipe)
            trained += mine
            failures += failed
        found = [run_detail(database, run.id) for run in all_runs(database)]
        once = all(len(run.provenance) == 1 and len(run.epochs) == 1 for run in found)
        finished = sum(run.summary.state is State.FINISHED for run in found)
        database.close()
    return CheckResult(
        f"{processes} processes ask for the same {runs} runs",
        f"{len(trained)} trainings, {finished} runs finished, "
        f"{'each once' if once else 'some more than once'}{_example(failures)}",
        once and finished == runs == len(trained) and not failures,
    )


def _train_all(connection: Connection, number: int, jobs: list[Job]) -> None:
    from dia_repro.execution.attempt import Attempt
    from dia_repro.execution.messages import Outcome

    mine: list[int] = []
    failures: list[str] = []
    for job in random.Random(number).sample(jobs, len(jobs)):
        ended = Attempt(job, lambda _message: None, lambda: False).run()
        if ended.outcome is Outcome.FINISHED:
            mine.append(job.run_id)
        elif ended.outcome is Outcome.FAILED:
            failures.append(str(ended.detail))
    connection.send((mine, failures))


def _start(target: object, *arguments: object) -> Connection:
    forkserver.start()
    ours, theirs = forkserver.CONTEXT.Pipe(duplex=False)
    process = forkserver.CONTEXT.Process(
        target=target,  # type: ignore[arg-type]
        args=(theirs, *arguments),
        daemon=True,
    )
    process.start()
    theirs.close()
    return ours


def _result(connection: Connection) -> tuple[list[float], list[str]]:
    try:
        word: tuple[list[float], list[str]] = connection.recv()
    except EOFError:
        return [], ["a process died"]
    return word


def _example(failures: list[str]) -> str:
    return f" (the first: {failures[0]})" if failures else ""
