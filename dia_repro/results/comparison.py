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
RESULT_FIELDS = ("state", "reason", "parameters", "epochs_done", "best_top1", "seconds")
PROVENANCE_FIELDS = tuple(name for name in ATTEMPTS.names if name not in ("attempt", "run"))
METRIC_FIELDS = tuple(name for name in EPOCHS.names if name not in ("run", "epoch", "seconds"))


@one_state
def compare_runs(database: Database, first: int, second: int) -> list[dict[str, Any]]:
    """Return a record for each field of the runs with these numbers, see `DIFFERENCES`.

    Values are as stored.

    Raises:
        UnknownRunError: there is no such run.
        DatabaseError: a spec cannot be read.
    """
    a, b = (run_detail(database, number) for number in (first, second))
    with database.reading() as session:
        found = records_of(session, RUNS, RunRow.id.in_((first, second)))
    known = {record["run"]: record for record in found}
    runs = known[first], known[second]
    # A run may have no attempt, and no epoch.
    attempts = [run.provenance[-1] if run.provenance else {} for run in (a, b)]
    metrics = [run.epochs[-1] if run.epochs else {} for run in (a, b)]
    return [
        *_records("spec", SPEC_FIELDS, *runs),
        *_records("result", RESULT_FIELDS, *runs),
        *_records("provenance", PROVENANCE_FIELDS, *attempts),
        *_records("metrics", METRIC_FIELDS, *metrics, list(zip(a.epochs, b.epochs, strict=False))),
    ]


def _records(
    section: str,
    names: Sequence[str],
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    epochs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]] = (),
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
