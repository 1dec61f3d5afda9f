"""A table's cells as records for programs."""

from __future__ import annotations

from dataclasses import asdict

from dia_repro.artifacts import Cell, TableValue
from dia_repro.rendering.records import Record

CELL_FIELDS = (
    "artifact",
    "row",
    "column",
    "metric",
    "unit",
    "paper",
    "ours_mean",
    "ours_std",
    "n",
    "n_expected",
    "status",
    "protocol",
    "dataset",
    "precision",
    "spec_id",
    "runs",
    "compared_runs",
)


def cell_records(value: TableValue) -> list[Record]:
    """One record a cell of a table, with `CELL_FIELDS`.

    `runs` and `compared_runs` are uids with a space between: numbers change when databases are
    merged, and files that are kept must still lead back to the same runs.
    """
    return [_record(cell) for cell in value.cells]


def _record(cell: Cell) -> Record:
    known = asdict(cell)
    known |= {"runs": " ".join(cell.uids), "compared_runs": " ".join(cell.compared_uids)}
    return {name: known[name] for name in CELL_FIELDS}
