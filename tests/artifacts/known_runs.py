"""A database with runs that ended in every way, and its rows as SQLite has them."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from dia_repro.experiments.spec import Spec
from dia_repro.results.database import Database, open_database
from dia_repro.results.schema import EpochRow, ProvenanceRow, RunRow, SpecRow, State
from tests.results.rows import PROVENANCE, epoch

FINISHED, DIVERGED, FAILED = State.FINISHED, State.DIVERGED, State.FAILED
# What becomes of the seeds of one spec after another; None is a seed that was never trained.
FATES = (
    (FINISHED, FINISHED, FINISHED),
    (FINISHED, DIVERGED, FINISHED),
    (FAILED, FINISHED, FINISHED),
    (DIVERGED, DIVERGED, None),
    (FAILED, None, FINISHED),
)
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901)


def fill(path: Path, specs: Iterable[Spec]) -> Database:
    """A database with runs of these specs whose epochs are random, the same ones each time."""
    database = open_database(str(path), create=True)
    draw = random.Random(0)
    with database.writing() as session:
        for place, spec in enumerate(dict.fromkeys(specs)):
            session.add(SpecRow(spec_id=spec.spec_id, json=spec.canonical_json()))
            session.flush()
            for seed, state in enumerate(FATES[place % len(FATES)]):
                if state is not None:
                    run, *of_run = _rows(draw, spec, place, seed, state)
                    session.add(run)
                    session.flush()
                    session.add_all(of_run)
    return database


def _rows(
    draw: random.Random, spec: Spec, place: int, seed: int, state: State
) -> list[RunRow | EpochRow | ProvenanceRow]:
    number = 10 * place + 5 - seed  # not in the order of seeds
    run = RunRow(
        id=number,
        uid=f"{draw.getrandbits(128):032x}",
        spec_id=spec.spec_id,
        seed=seed,
        state=state,
        reason="no memory" if state is FAILED else None,
        parameters=1_000_000 + 1000 * place,
        created_at=MOMENT,
        changed_at=MOMENT,
    )
    figures = [round(draw.uniform(50, 99), 2) for _ in range(draw.randint(2, 5))]
    epochs = [EpochRow(run_id=number, **epoch(n, top1)) for n, top1 in enumerate(figures, start=1)]
    known = {**PROVENANCE, "host": f"host{seed}", "git_commit": "a" * 40, "git_clean": seed == 0}
    attempt = ProvenanceRow(run_id=number, started_at=MOMENT, ended_at=MOMENT, **known)
    return [run, *epochs, attempt]


def accuracies(path: Path, run: int) -> dict[int, float]:
    """Test accuracy by epoch, read without any code of the package."""
    with sqlite3.connect(path) as connection:
        chosen = "select epoch, test_top1 from epochs where run_id = ?"
        return dict(connection.execute(chosen, (run,)).fetchall())


def runs_in(path: Path, spec_id: str) -> dict[int, tuple[int, str, int]]:
    """(seed, state, #P) of the runs of a spec by number, read without any code of the package."""
    with sqlite3.connect(path) as connection:
        chosen = "select id, seed, state, parameters from runs where spec_id = ?"
        return {row[0]: row[1:] for row in connection.execute(chosen, (spec_id,))}
