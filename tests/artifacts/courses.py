"""Databases whose runs went in a given way, epoch by epoch."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

from dia_repro.experiments.spec import Spec
from dia_repro.results import writer
from dia_repro.results.database import Database, open_database
from dia_repro.results.schema import State
from tests.results.rows import begin, epoch

FINISHED, DIVERGED = State.FINISHED, State.DIVERGED
# What becomes of the seeds of one spec after another, over and over.
NOTHING: tuple[State | None, ...] = ()
FATES: dict[str, tuple[tuple[State | None, ...], ...]] = {
    "no runs": (NOTHING,),
    "one seed": ((FINISHED,),),
    "all diverged": ((DIVERGED,) * 3,),
    "half missing": (
        NOTHING,
        (FINISHED, DIVERGED),
        (None, FINISHED, State.FAILED),
        (State.RUNNING,),
        NOTHING,
    ),
    "10 seeds": ((FINISHED,) * 10, (FINISHED,) * 7 + (DIVERGED,) * 3),
}


def fill(path: Path, specs: Iterable[Spec], fates: str) -> Database:
    """A database with runs of these specs that end as one of `FATES` has it."""
    database = open_database(str(path), create=True)
    draw = random.Random(0)
    for place, spec in enumerate(dict.fromkeys(specs)):
        of_spec = FATES[fates][place % len(FATES[fates])]
        for seed, state in enumerate(of_spec):
            if state is not None:
                until = spec.recipe.epochs if state is FINISHED else draw.choice([0, 2, 3])
                figures = [round(draw.uniform(60, 62) + 2 * n, 2) for n in range(until)]
                reason = f"loss nan at step {2 + seed} of epoch {until + 1}"
                add(database, spec, seed, figures, state, reason if state is DIVERGED else None)
    return database


def add(
    database: Database,
    spec: Spec,
    seed: int,
    top1: Iterable[float],
    state: State = FINISHED,
    reason: str | None = None,
    loss: float = 1.0,
) -> int:
    """A run with these test accuracies; its training loss is `loss` in every epoch."""
    known = {spec.spec_id: spec.canonical_json()}
    run = writer.ensure_runs(database, known, [seed])[spec.spec_id, seed]
    attempt = begin(database, run)
    writer.set_parameters(database, run, attempt, 1_000_000)
    figures = enumerate(top1, start=1)
    history = [{**epoch(number, figure), "train_loss": loss} for number, figure in figures]
    writer.align_epochs(database, run, attempt, history)  # at once, not a transaction each
    if state is not State.RUNNING:
        writer.end(
            database, run, attempt, state, reason=reason, wall_seconds=1.0, peak_memory_bytes=1
        )
    return run
