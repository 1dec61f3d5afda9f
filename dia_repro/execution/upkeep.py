"""Looking after runs and their folders: false claims, folders of nobody, removal."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from dia_repro.errors import UsageError
from dia_repro.execution import claiming
from dia_repro.execution.planning import checkpoint_folder
from dia_repro.experiments.spec import InvalidSpecError, Spec
from dia_repro.results import claims, writer
from dia_repro.results.checks import Finding
from dia_repro.results.claims import Holder
from dia_repro.results.database import Database
from dia_repro.results.queries import RunSummary, all_runs, run_detail, spec_json
from dia_repro.results.schema import State
from dia_repro.training.checkpoint import run_folder


class BusyRunError(UsageError):
    """The run is being trained."""


def folder_of(database: Database, run: RunSummary) -> Path:
    """Where a run of this database keeps its lock and checkpoints."""
    return run_folder(checkpoint_folder(database), run.spec_id, run.seed, run.uid)


def dead_runs(database: Database, lease: float | None = None) -> list[RunSummary]:
    """The runs that claim to be running while nobody trains them.

    Those of this machine are known by their locks; others are watched for a sign of life.

    Args:
        lease: seconds that a holder elsewhere may be silent; by default as long as anywhere.
    """
    running = [run for run in all_runs(database) if run.state is State.RUNNING]
    held = {holder.run_id: holder for holder in claims.holders(database)}
    dead, elsewhere = [], {}
    for run in running:
        folder, holder = folder_of(database, run), held.get(run.id)
        lock = claiming.lock_folder(folder) if folder.is_dir() else None
        if lock is None and folder.is_dir():
            continue  # somebody on this machine has it
        if holder is None or (lock is not None and holder.place == claiming.place_of(folder)):
            dead.append(run)
        else:
            elsewhere[run.id] = (run, holder)
        if lock is not None:
            lock.release()
    silent = _silent(database, [holder for _, holder in elsewhere.values()], lease)
    return dead + [run for run, holder in elsewhere.values() if holder in silent]


def _silent(database: Database, watched: list[Holder], lease: float | None) -> list[Holder]:
    if watched:
        time.sleep(claiming.LEASE_SECONDS if lease is None else lease)
    now = claims.holders(database)
    return [holder for holder in watched if holder in now]


def run_findings(database: Database) -> Iterator[Finding]:
    """What is wrong with a database's specs and with the folders beside it."""
    runs = all_runs(database)
    for spec_id, text in spec_json(database, {run.spec_id for run in runs}).items():
        try:
            if Spec.from_json(text).spec_id != spec_id:
                yield Finding(f"spec {spec_id} is not what its spec_id says")
        except InvalidSpecError as error:
            yield Finding(f"a spec cannot be read: {error}")
    known = {folder_of(database, run).resolve() for run in runs}
    for folder in sorted(checkpoint_folder(database).glob("*/seed-*")):
        if folder.resolve() not in known:
            yield Finding(f"{folder} belongs to no run ({_megabytes(folder)})", bad=False)


def _megabytes(folder: Path) -> str:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{size / 1e6:,.1f} MB"


def remove_run(database: Database, number: int, *, only_checkpoints: bool) -> None:
    """Remove a run with all that belongs to it, or only its checkpoints.

    Raises:
        UnknownRunError: there is no such run.
        BusyRunError: somebody trains it.
    """
    run = run_detail(database, number).summary
    folder = folder_of(database, run)
    lock = claiming.lock_folder(folder)
    if lock is None:
        raise BusyRunError(f"run {number} is being trained by {run.owner or 'another process'}")
    with lock:
        for holder in claims.holders(database, number):
            if holder.place != claiming.place_of(folder):
                raise BusyRunError(
                    f"run {number} is claimed by {holder.owner}: "
                    "if that is dead, 'dia-repro db check --repair' frees it"
                )
        if not only_checkpoints:
            writer.remove_run(database, number)
        for path in folder.iterdir():
            if path.name != "lock":
                path.unlink()
    if not only_checkpoints:
        shutil.rmtree(folder, ignore_errors=True)
