"""A table's cells as records for programs."""

from __future__ import annotations

from dataclasses import asdict

from dia_repro.artifacts import TableValue
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
)


def cell_records(value: TableValue) -> list[Record]:
    """One record a cell of a table, with `CELL_FIELDS`."""
    return [{name: asdict(cell)[name] for name in CELL_FIELDS} for cell in value.cells]
