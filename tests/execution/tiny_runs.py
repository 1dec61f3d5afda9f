"""Trains tiny runs in the working folder, as `dia-repro run` does; for tests that kill it.

Usage: python -m tests.execution.tiny_runs SEEDS JOBS EPOCHS [ADDRESS [DATABASE]]

With the address of a Ray cluster they are its tasks.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dia_repro.execution.executors.local import LocalSupervisor
from dia_repro.execution.machine import Slots
from dia_repro.execution.maintenance import checkpoint_store
from dia_repro.execution.messages import Job, Message, Notice
from dia_repro.experiments.names import DataLocation
from dia_repro.experiments.spec import Spec
from dia_repro.results import writer
from dia_repro.results.backends import sqlite_path
from dia_repro.results.database import Database, open_database
from tests.helpers import tiny_spec

if TYPE_CHECKING:
    from dia_repro.execution.executors.ray import RaySupervisor

DATABASE = "runs.db"


def make_jobs(
    folder: Path,
    specs: list[Spec],
    seeds: int,
    checkpoints: str | None = None,
    location: str | None = None,
) -> tuple[Database, list[Job]]:
    """The database in a folder, or elsewhere, and a job for each spec and seed."""
    location = location or str(folder / DATABASE)
    database = open_database(location, create=True)
    place = checkpoints if checkpoints or sqlite_path(location) else folder / "runs-checkpoints"
    store = checkpoint_store(database, str(place) if place else None)
    known = {spec.spec_id: spec.canonical_json() for spec in specs}
    numbers = writer.ensure_runs(database, known, range(seeds))
    jobs = [
        Job(
            run_id=run,
            label=f"tiny {spec_id}, seed {seed}",
            spec_json=known[spec_id],
            seed=seed,
            database=location,
            checkpoints=store,
            data=DataLocation(folder),
            device="cpu",
            threads=1,
            command="tiny",
        )
        for (spec_id, seed), run in numbers.items()
    ]
    return database, jobs


def report(job: Job, message: Message) -> None:
    """Notices to standard output, for the test that reads them."""
    if isinstance(message, Notice):
        print(message.text, flush=True)


def main() -> None:
    seeds, workers, epochs = map(int, sys.argv[1:4])
    address, location = [*sys.argv[4:], None, None][:2]
    place, specs = os.environ.get("DIA_REPRO_CHECKPOINTS"), [tiny_spec(epochs=epochs)]
    database, jobs = make_jobs(Path.cwd(), specs, seeds, place, location)
    executor: LocalSupervisor | RaySupervisor = LocalSupervisor(
        database, Slots.on_cpu(workers), report
    )
    if address:
        from dia_repro.execution.executors.ray import RaySupervisor
        from dia_repro.execution.ray_nodes import Share, connect

        connect(address)
        executor = RaySupervisor(database, Share(0, 1), report)
    print("started", flush=True)
    for run, ended in executor.run(jobs).items():
        print(run, ended.outcome.value, ended.detail or "", flush=True)


if __name__ == "__main__":
    main()
