"""Databases whose runs went in a given way, epoch by epoch."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from dia_repro.experiments.spec import Spec
from dia_repro.results import writer
from dia_repro.results.database import Database, open_database
from dia_repro.results.schema import Base, EpochRow, ProvenanceRow, RunRow, SpecRow, State, now
from tests.results.rows import PROVENANCE, begin, epoch

PARAMETERS = 1_000_000
LOWER = 2.0
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
    ended: list[Course] = []
    for number, spec in enumerate(dict.fromkeys(specs)):
        of_spec = FATES[fates][number % len(FATES[fates])]
        for seed, state in enumerate(of_spec):
            if state is not None:
                until = spec.recipe.epochs if state is FINISHED else draw.choice([0, 2, 3])
                top1 = [round(draw.uniform(60, 62) + 2 * n, 2) for n in range(until)]
                loss_was = f"loss nan at step {2 + seed} of epoch {until + 1}"
                reason = loss_was if state is DIVERGED else None
                if state is State.RUNNING:
                    add(database, spec, seed, top1, state)
                else:
                    ended.append(Course(spec, seed, top1, state, reason))
    record(database, ended)
    return database


@dataclass(frozen=True)
class Course:
    """A run that has ended: its test accuracies, and its training loss in every epoch.

    Where images are held out for validation, the accuracies are those, and the accuracy on the test
    set is `LOWER` than the best of them.
    """

    spec: Spec
    seed: int
    top1: Sequence[float]
    state: State = FINISHED
    reason: str | None = None
    loss: float = 1.0


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
    course = Course(spec, seed, list(top1), state, reason, loss)
    if state is not State.RUNNING:
        return record(database, [course])[0]
    known = {spec.spec_id: spec.canonical_json()}
    run = writer.ensure_runs(database, known, [seed])[spec.spec_id, seed]
    lease = begin(database, run)
    writer.set_parameters(database, lease, PARAMETERS)
    writer.align(database, lease, _history(course), {})
    return run


def record(database: Database, courses: Sequence[Course]) -> list[int]:
    """The rows that their trainings would have left, in one transaction."""
    moment, numbers = now(), []
    with database.writing() as session:
        known = set(session.scalars(select(SpecRow.spec_id)))
        specs = {course.spec.spec_id: course.spec for course in courses}
        new = [{"spec_id": i, "json": s.canonical_json()} for i, s in specs.items()]
        _insert(session, SpecRow, [row for row in new if row["spec_id"] not in known])
        first = (session.scalar(select(func.max(RunRow.id))) or 0) + 1
        numbers = list(range(first, first + len(courses)))
        runs, attempts, epochs = [], [], []
        for number, course in zip(numbers, courses, strict=True):
            at = {"created_at": moment, "changed_at": moment}
            named = {"uid": uuid.uuid4().hex, "spec_id": course.spec.spec_id, "seed": course.seed}
            ending = {"state": course.state, "reason": course.reason, "parameters": PARAMETERS}
            runs.append({"id": number, **named, **ending, **at})
            taken = {"wall_seconds": 1.0, "peak_memory_bytes": 1, "ended_at": moment}
            attempts.append({"run_id": number, "started_at": moment, **PROVENANCE, **taken})
            epochs += [{"run_id": number, **figures} for figures in _history(course)]
        _insert(session, RunRow, runs)
        _insert(session, ProvenanceRow, attempts)
        _insert(session, EpochRow, epochs)
    return numbers


def _history(course: Course) -> list[dict[str, float | None]]:
    return [_epoch(course, number, top1) for number, top1 in enumerate(course.top1, start=1)]


def _epoch(course: Course, number: int, top1: float) -> dict[str, float | None]:
    recipe, none = course.spec.recipe, {"validation_loss": None, "validation_top1": None}
    values: dict[str, float | None] = {**epoch(number, top1), **none}
    values |= {"lr": recipe.rate_in(number - 1), "train_loss": course.loss}
    if course.spec.data.validation is not None:
        values |= {"validation_loss": 1.0, "validation_top1": top1}
        last = number == recipe.epochs
        values["test_top1"] = max(course.top1) - LOWER if last else None
        values["test_loss"] = 1.0 if last else None
    return values


def _insert(session: Session, table: type[Base], rows: list[dict[str, Any]]) -> None:
    if rows:
        session.execute(insert(table), rows)
