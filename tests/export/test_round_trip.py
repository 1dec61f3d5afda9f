"""The exported files hold what the database holds, and schema.json says what it is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy import inspect

from dia_repro.experiments.describe import describe_data, describe_model
from dia_repro.experiments.spec import (
    DataSpec,
    DIALSTMAttention,
    ImageNetBackbone,
    NoAttention,
    PreResNetBackbone,
    RecipeSpec,
    ResNetBackbone,
    ResNeXtBackbone,
    SEAttention,
    WRNBackbone,
)
from dia_repro.export import rows
from dia_repro.export.columns import ATTEMPTS, EPOCHS, RUNS, TABLES
from dia_repro.export.formats import Format
from dia_repro.results.database import Database
from dia_repro.results.queries import all_runs
from dia_repro.results.schema import EpochRow, ProvenanceRow, Real, RunRow
from tests.export.known import described, expected, read, same, some_specs, write


@pytest.mark.parametrize("batch", [1, 3, 20_000])
@pytest.mark.parametrize("format_", list(Format))
def test_every_value_comes_back_exactly(
    format_: Format,
    batch: int,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rows, "BATCH", batch)
    counts = write(database, tmp_path / "out", format_)
    for name in ("epochs", "attempts"):
        header, found = read(tmp_path / "out", name, format_)
        assert header == [column["name"] for column in described(tmp_path / "out")[name]]
        wanted = expected(database, name)
        assert len(found) == len(wanted) == counts[name] > 3
        for ours, theirs in zip(found, wanted, strict=True):
            assert all(map(same, ours, theirs)), (ours, theirs)


@pytest.mark.parametrize("format_", list(Format))
def test_runs_have_their_experiment_and_what_came_of_it(
    format_: Format, database: Database, tmp_path: Path
) -> None:
    write(database, tmp_path / "out", format_)
    header, found = read(tmp_path / "out", "runs", format_)
    records = [dict(zip(header, row, strict=True)) for row in found]
    known = {spec.spec_id: spec for spec in some_specs()}
    summaries = all_runs(database)
    assert len(records) == len(summaries) == len(known)
    for record, run in zip(records, summaries, strict=True):
        spec = known[record["spec_id"]]
        assert record["run"] == run.id
        assert record["epochs_done"] == run.epochs
        for name in ("uid", "seed", "state", "reason", "owner", "parameters", "seconds"):
            assert record[name] == getattr(run, name), name
        for name in ("best_top1", "last_top1"):
            assert same(record[name], getattr(run, name))
        for name in ("created_at", "changed_at"):
            assert record[name] == getattr(run, name).replace(tzinfo=UTC)
        assert record["network"] == describe_model(spec.model)
        assert record["data"] == describe_data(spec.data)
        for column in RUNS.columns:
            if column.origin.startswith("spec."):
                wanted: Any = spec
                for part in column.origin.split(".")[1:]:
                    wanted = getattr(wanted, part, None)
                if isinstance(wanted, tuple):
                    wanted = " ".join(map(str, wanted))
                assert same(record[column.name], wanted), column.name
    for column in RUNS.columns:
        values = [record[column.name] for record in records]
        assert any(value is not None for value in values), f"{column.name} is always missing"
        assert column.nullable or None not in values


@pytest.mark.parametrize("format_", list(Format))
def test_every_exported_column_is_described_and_every_described_one_exported(
    format_: Format, database: Database, tmp_path: Path
) -> None:
    write(database, tmp_path / "out", format_)
    tables = described(tmp_path / "out")
    files = {path.stem for path in (tmp_path / "out").iterdir()} - {"schema"}
    assert files == tables.keys() == {table.name for table in TABLES}
    for name, columns in tables.items():
        header, _ = read(tmp_path / "out", name, format_)
        assert header == [column["name"] for column in columns]
        assert len(set(header)) == len(header)
        for column in columns:
            assert set(column) == {"name", "type", "unit", "nullable", "meaning"}
            assert column["type"] in ("integer", "number", "text", "boolean", "time")
            assert column["meaning"].endswith(".")


PYTHON_TYPES = {"integer": int, "number": float, "text": str, "boolean": bool, "time": datetime}


@pytest.mark.parametrize(("table", "source"), [(EPOCHS, EpochRow), (ATTEMPTS, ProvenanceRow)])
def test_every_column_of_the_database_is_exported_as_what_it_is(table: Any, source: Any) -> None:
    by_origin = {column.origin: column for column in table.columns}
    assert by_origin.keys() == {column.key for column in inspect(source).columns}
    for column in inspect(source).columns:
        ours = by_origin[column.key]
        assert ours.nullable == column.nullable, ours.name
        real = isinstance(column.type, Real)
        assert PYTHON_TYPES[ours.type] is (float if real else column.type.python_type), ours.name


def test_every_column_of_runs_and_every_field_of_a_spec_is_exported() -> None:
    origins = {column.origin for column in RUNS.columns}
    assert {f"run.{column.key}" for column in inspect(RunRow).columns} <= origins
    fields = {
        *leaves("spec.data", DataSpec),
        *leaves("spec.recipe", RecipeSpec),
        *(f"spec.model.{name}" for name in ("norm", "skip")),
        "spec.precision",
    }
    for variant in (NoAttention, SEAttention, DIALSTMAttention):
        fields.update(leaves("spec.model.attention", variant))
    for backbone in (
        ResNetBackbone,
        PreResNetBackbone,
        WRNBackbone,
        ResNeXtBackbone,
        ImageNetBackbone,
    ):
        fields.update(leaves("spec.model.backbone", backbone))
    assert {origin for origin in origins if origin.startswith("spec.")} == fields


def leaves(path: str, model: type[BaseModel]) -> Iterator[str]:
    return (f"{path}.{name}" for name in model.model_fields)
