"""Comparison of two runs: experiment, result, environment, and the epoch where they part."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from dia_repro.results.queries import RunDetail, run_detail
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


@dataclass(frozen=True)
class Difference:
    """A field of two runs; attributes as the columns of `DIFFERENCES`, values as stored."""

    section: str
    field: str
    a: Any
    b: Any
    differs: bool
    from_epoch: int | None = None


@one_state
def compare_runs(database: Database, first: int, second: int) -> tuple[Difference, ...]:
    """Return every field of the runs with these numbers, in the order of the sections.

    Raises:
        UnknownRunError: there is no such run.
        DatabaseError: a spec cannot be read.
    """
    a, b = (run_detail(database, number) for number in (first, second))
    with database.reading() as session:
        found = records_of(session, RUNS, RunRow.id.in_((first, second)))
    records = {record["run"]: record for record in found}
    own, other = records[first], records[second]
    attempts = [run.provenance[-1] if run.provenance else {} for run in (a, b)]
    return (
        *_fields("spec", SPEC_FIELDS, own, other),
        *_fields("result", RESULT_FIELDS, own, other),
        *_fields("provenance", PROVENANCE_FIELDS, *attempts),
        *_metrics(a, b),
    )


def _fields(
    section: str, names: Sequence[str], a: Mapping[str, Any], b: Mapping[str, Any]
) -> Iterator[Difference]:
    for name in names:
        values = a.get(name), b.get(name)  # a run without an attempt has none
        yield Difference(section, name, *values, not _same(*values))


def _metrics(a: RunDetail, b: RunDetail) -> Iterator[Difference]:
    """Yield the metrics of the last epochs, and the first epoch in which each differs."""
    others = {epoch["epoch"]: epoch for epoch in b.epochs}
    both = [(epoch, others[epoch["epoch"]]) for epoch in a.epochs if epoch["epoch"] in others]
    last = [dict(run.epochs[-1]) if run.epochs else {} for run in (a, b)]
    for name in METRIC_FIELDS:
        values = last[0].get(name), last[1].get(name)
        parted = (own["epoch"] for own, other in both if not _same(own[name], other[name]))
        epoch: Any = next(parted, None)
        yield Difference("metrics", name, *values, epoch is not None or not _same(*values), epoch)


def _same(a: object, b: object) -> bool:
    both_nan = all(isinstance(value, float) and math.isnan(value) for value in (a, b))
    return both_nan or a == b
