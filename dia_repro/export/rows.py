"""Rows of the exported tables, read in batches: no table is ever held whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dia_repro.experiments.describe import describe_data, describe_model
from dia_repro.experiments.spec import Spec
from dia_repro.export.columns import ATTEMPTS, EPOCHS, RUNS, Table
from dia_repro.results.database import DatabaseError
from dia_repro.results.queries import RunSummary, iterate_runs
from dia_repro.results.schema import EpochRow, ProvenanceRow, RunRow, SpecRow

Row = Sequence[Any]
BATCH = 20_000

SOURCES: dict[str, type[RunRow | EpochRow | ProvenanceRow]] = {
    RUNS.name: RunRow,
    EPOCHS.name: EpochRow,
    ATTEMPTS.name: ProvenanceRow,
}


def count_rows(session: Session, table: Table) -> int:
    """How many records a table will have."""
    source = select(func.count()).select_from(SOURCES[table.name])
    return session.scalar(source) or 0


def batches(session: Session, table: Table) -> Iterator[Sequence[Row]]:
    """The rows of a table in the order of their numbers, values in the order of its columns."""
    if table is RUNS:
        rows = _run_rows(session)
        while batch := list(islice(rows, BATCH)):
            yield batch
        return
    source = SOURCES[table.name]
    chosen = select(*(getattr(source, column.origin) for column in table.columns))
    ordered = chosen.order_by(*source.metadata.tables[source.__tablename__].primary_key)
    found = session.execute(ordered, execution_options={"yield_per": BATCH})
    yield from found.partitions()


def _run_rows(session: Session) -> Iterator[Row]:
    specs = {row.spec_id: _flat(row.json) for row in session.scalars(select(SpecRow))}
    for run in iterate_runs(session):
        spec = specs.get(run.spec_id)
        if spec is None:
            raise DatabaseError(
                f"spec {run.spec_id} of run {run.id} is gone: see 'dia-repro db check'"
            )
        yield tuple(_value(column.origin, run, spec) for column in RUNS.columns)


def _value(origin: str, run: RunSummary, spec: Mapping[str, object]) -> object:
    if not origin.startswith("run."):
        return spec.get(origin)
    value = getattr(run, origin.removeprefix("run."))
    return str(value) if isinstance(value, str) else value  # a state as plain text


def _flat(text: str) -> dict[str, object]:
    """The fields of a spec by path, with the words that describe it."""
    spec = Spec.from_json(text)
    words = {
        "words.network": describe_model(spec.model),
        "words.data": describe_data(spec.data),
    }
    return {**words, **dict(_leaves("spec", json.loads(spec.canonical_json())))}


def _leaves(path: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _leaves(f"{path}.{name}", one)
    elif isinstance(value, list):
        yield path, " ".join(map(str, value))
    else:
        yield path, value
