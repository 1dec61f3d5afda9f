"""A database with values of every kind, and readers of what is exported from it."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from sqlalchemy import inspect, select

from dia_repro.artifacts import ARTIFACTS
from dia_repro.data import own_images
from dia_repro.experiments.spec import (
    SEAttention,
    Spec,
)
from dia_repro.rendering.export import export_database
from dia_repro.rendering.records import FileFormat
from dia_repro.results.database import Database, open_database
from dia_repro.results.schema import EpochRow, ProvenanceRow, RunRow, SpecRow, State
from tests.artifacts.test_table5 import PAPER
from tests.helpers import tiny_spec
from tests.results.rows import PROVENANCE

NAN, INF = math.nan, math.inf
ODD_TEXT = 'a "quoted", text;\nof two lines\r\nwith ünïcode \U0001f600 and a tab\t'
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901)
FIGURES = ("lr", "train_loss", "train_top1", "test_loss", "test_top1", "seconds")
EPOCH_FIGURES = (
    (0.1, 2.302585092994046, 10.0, 1 / 3, 12.5, 1e-300),
    (0.1, NAN, 10.0, INF, 9.0, 5e-324),
    (1.7976931348623157e308, -INF, NAN, NAN, 9.5, 0.1 + 0.2),
)


def some_specs() -> list[Spec]:
    """Experiments that between them have every field that there is."""
    own = own_images("folder:my pets, größer", 2, 48, "0" * 64)
    own = own.model_copy(update={"validation": 10})
    own_spec = tiny_spec(attention=SEAttention(kind="se"), milestones=())
    return [
        *(ARTIFACTS["table3"].specs(PAPER).values()),
        tiny_spec(),
        own_spec.model_copy(update={"data": own}),
    ]


def fill(location: str) -> Database:
    """Runs in every state, with figures and texts of every kind."""
    database = open_database(location, create=True)
    states = list(State)
    with database.writing() as session:
        for place, spec in enumerate(some_specs()):
            session.add(SpecRow(spec_id=spec.spec_id, json=spec.canonical_json()))
            session.flush()
            run = RunRow(
                uid=f"{place:032x}",
                spec_id=spec.spec_id,
                seed=place,
                state=states[place % len(states)],
                reason=ODD_TEXT if place % 2 else None,
                owner="somebody" if place % 3 else None,
                parameters=2**40 + place if place % 2 else None,
                created_at=MOMENT,
                changed_at=MOMENT + timedelta(microseconds=place),
            )
            session.add(run)
            session.flush()
            for number, figures in enumerate(EPOCH_FIGURES[: place % 4], start=1):
                named = dict(zip(FIGURES, figures, strict=True))
                session.add(EpochRow(run_id=run.id, epoch=number, **named))
            for known in (
                {},
                {"command": ODD_TEXT, "peak_memory_bytes": 2**50, "ended_at": MOMENT},
            ):
                session.add(ProvenanceRow(run_id=run.id, started_at=MOMENT, **PROVENANCE | known))
        session.flush()
        row = session.scalars(select(ProvenanceRow)).first()
        assert row is not None
        row.wall_seconds, row.cuda, row.git_commit, row.git_clean = NAN, "13", "a" * 40, False
        row.step, row.deterministic = "captured", True
    return database


def write(database: Database, folder: Path, format_: FileFormat, **options: Any) -> dict[str, int]:
    known: dict[str, Any] = {"overwrite": False, "on_progress": lambda done, total: None}
    return export_database(database, folder, format_, **known | options)


def described(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Columns by table, as schema.json has them."""
    tables = json.loads((folder / "schema.json").read_text("utf-8"))["tables"]
    return {name: table["columns"] for name, table in tables.items()}


CONVERT: dict[str, Callable[[Any], Any]] = {
    "integer": int,
    "number": float,
    "text": str,
    "boolean": {"True": True, "False": False}.__getitem__,
    "time": lambda text: datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC),
}


def parse(column: dict[str, Any], text: str) -> Any:
    """A field of a CSV file, by what schema.json and nothing else says of its column."""
    if text == "" and column["nullable"]:
        return None
    return CONVERT[column["type"]](text)


def read(folder: Path, name: str, format_: FileFormat) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Header and rows of an exported table, typed as schema.json says."""
    columns = described(folder)[name]
    path = folder / f"{name}.{format_}"
    if format_ is FileFormat.CSV:
        with path.open(encoding="utf-8", newline="") as file:
            header, *lines = csv.reader(file)
        return header, [tuple(map(parse, columns, line)) for line in lines]
    if format_ is FileFormat.PARQUET:
        table = parquet.read_table(path)
        return table.column_names, list(zip(*table.to_pydict().values(), strict=True))
    records = json.loads(path.read_text("utf-8"), parse_constant=pytest.fail)
    found = [
        tuple(of_json(column, record[column["name"]]) for column in columns) for record in records
    ]
    return list(records[0]) if records else [], found


def of_json(column: dict[str, Any], value: Any) -> Any:
    if value is None or column["type"] not in ("number", "time"):
        return value
    return CONVERT[column["type"]](value)


def expected(database: Database, name: str) -> list[tuple[Any, ...]]:
    """The rows of a table, put together from the database by its objects."""
    with database.reading() as session:
        if name == "epochs":
            found = session.scalars(select(EpochRow).order_by(EpochRow.run_id, EpochRow.epoch))
            return [(e.run_id, e.epoch, *(getattr(e, f) for f in FIGURES)) for e in found]
        attempts = session.scalars(select(ProvenanceRow).order_by(ProvenanceRow.id))
        names = [c.key for c in inspect(ProvenanceRow).columns if c.key not in ("id", "run_id")]
        return [(a.id, a.run_id, *(zoned(getattr(a, n)) for n in names)) for a in attempts]


def zoned(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def same(ours: Any, theirs: Any) -> bool:
    """Equal to the last bit and of the same type; nan equals nan."""
    if type(ours) is not type(theirs):
        return False
    return repr(ours) == repr(theirs) if isinstance(ours, float) else bool(ours == theirs)
