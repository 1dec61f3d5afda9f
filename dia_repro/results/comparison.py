"""Comparison of two runs: experiment, result, environment, and the epoch where they part."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dia_repro.results.database import Database, one_state
from dia_repro.results.frames import (
    ATTEMPTS,
    EPOCHS,
    RUNS,
    SPEC,
    Column,
    Table,
    optional,
    records_of,
)
from dia_repro.results.queries import run_detail
from dia_repro.results.schema import RunRow

Row = Mapping[str, Any]
DIFFERENCES = Table(
    "differences",
    "One record each field of two runs that are compared.",
    (
        Column(
            "section", "text", "spec, result, provenance (last attempt) or metrics (last epoch)."
        ),
        Column("field", "text", "Name of the column, as in runs, attempts or epochs."),
        optional("a", "text", "Value of the first run."),
        optional("b", "text", "Value of the second run."),
        Column("differs", "boolean", "Whether the values differ, metrics in any epoch."),
        optional("from_epoch", "integer", "First epoch of both in which a metric differs."),
    ),
)
SPEC_FIELDS = ("spec_id", "seed", *(column.name for column in SPEC.values()))
RESULT_FIELDS = (
    *("origin", "state", "reason", "parameters", "epochs_done", "best_top1", "seconds"),
)
PROVENANCE_FIELDS = tuple(
    name for name in ATTEMPTS.names if name not in ("attempt", "run", "git_diff")
)
METRIC_FIELDS = tuple(name for name in EPOCHS.names if name not in ("run", "epoch", "seconds"))


@one_state
def compare_runs(database: Database, first: int, second: int) -> list[dict[str, Any]]:
    """Return a record for each field of the runs with these numbers, see `DIFFERENCES`.

    Raises:
        UnknownRunError: there is no such run.
        DatabaseError: a spec cannot be read.
    """
    a, b = (run_detail(database, number) for number in (first, second))
    with database.reading() as session:
        found = records_of(session, RUNS, RunRow.id.in_((first, second)))
    records = {record["run"]: record for record in found}
    runs = records[first], records[second]
    both = list(zip(a.epochs, b.epochs, strict=False))
    return [
        *_records("spec", SPEC_FIELDS, *runs),
        *_records("result", RESULT_FIELDS, *runs),
        *_records("provenance", PROVENANCE_FIELDS, _last(a.provenance), _last(b.provenance)),
        *_records("metrics", METRIC_FIELDS, _last(a.epochs), _last(b.epochs), both),
    ]


def _last(rows: Sequence[Row]) -> Row:
    return rows[-1] if rows else {}


def _records(
    section: str, names: Sequence[str], a: Row, b: Row, epochs: Sequence[tuple[Row, Row]] = ()
) -> Iterator[dict[str, Any]]:
    for name in names:
        parted = (own["epoch"] for own, other in epochs if not _same(own[name], other[name]))
        epoch = next(parted, None)
        differs = epoch is not None or not _same(a.get(name), b.get(name))
        values = (section, name, a.get(name), b.get(name), differs, epoch)
        yield dict(zip(DIFFERENCES.names, values, strict=True))


def _same(a: object, b: object) -> bool:
    both_nan = all(isinstance(value, float) and math.isnan(value) for value in (a, b))
    return both_nan or a == b
