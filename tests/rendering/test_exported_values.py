"""The exported files hold what the database holds, and schema.json says what it is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy import inspect

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
from dia_repro.rendering.export import TABLES
from dia_repro.rendering.records import FileFormat
from dia_repro.results import frames
from dia_repro.results.database import Database
from dia_repro.results.frames import ATTEMPTS, EPOCHS, RUNS, SPEC
from dia_repro.results.queries import all_runs
from dia_repro.results.schema import EpochRow, ProvenanceRow, RunRow
from tests.rendering.exported import described, expected, fill, read, same, some_specs, write


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """Runs in every state, with values and texts of every kind."""
    return fill(str(tmp_path / "runs.db"))


@pytest.mark.parametrize("batch", [1, 3, 20_000])
@pytest.mark.parametrize("format_", list(FileFormat))
def test_every_value_comes_back_exactly(
    format_: FileFormat,
    batch: int,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frames, "BATCH", batch)
    counts = write(database, tmp_path / "out", format_)
    for name in ("epochs", "attempts"):
        header, found = read(tmp_path / "out", name, format_)
        assert header == [column["name"] for column in described(tmp_path / "out")[name]]
        wanted = expected(database, name)
        assert len(found) == len(wanted) == counts[name] > 3
        for ours, theirs in zip(found, wanted, strict=True):
            assert all(map(same, ours, theirs)), (ours, theirs)


@pytest.mark.parametrize("format_", list(FileFormat))
def test_runs_have_their_experiment_and_what_came_of_it(
    format_: FileFormat, database: Database, tmp_path: Path
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
        assert record["network"] == spec.model.label
        assert record["data"] == spec.data.label
        for path, column in SPEC.items():
            if path not in ("network", "data", "model.attention"):
                wanted: Any = spec
                for part in path.split("."):
                    wanted = getattr(wanted, part, None)
                if isinstance(wanted, tuple):
                    wanted = " ".join(map(str, wanted))
                assert same(record[column.name], wanted), column.name
    for column in RUNS.columns:
        values = [record[column.name] for record in records]
        assert column.name == "attention_options" or any(value is not None for value in values)
        assert column.nullable or None not in values


@pytest.mark.parametrize("format_", list(FileFormat))
def test_every_exported_column_is_described_and_every_described_one_exported(
    format_: FileFormat, database: Database, tmp_path: Path
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


@pytest.mark.parametrize(
    ("table", "source"), [(RUNS, RunRow), (EPOCHS, EpochRow), (ATTEMPTS, ProvenanceRow)]
)
def test_every_column_of_the_database_is_described(table: Any, source: Any) -> None:
    columns = inspect(source).columns
    for ours, column in zip(table.columns, columns, strict=table is not RUNS):
        assert ours.name in (column.key, column.info["shown_as"])
        assert ours.meaning.endswith(".")
        assert ours.nullable == column.nullable


def test_every_field_of_a_spec_is_described() -> None:
    fields = {
        *leaves("data", DataSpec),
        *leaves("recipe", RecipeSpec),
        *("model.norm", "model.skip", "precision"),
    }
    for variant in (NoAttention, SEAttention, DIALSTMAttention):
        fields.update(leaves("model.attention", variant))
    for backbone in (
        ResNetBackbone,
        PreResNetBackbone,
        WRNBackbone,
        ResNeXtBackbone,
        ImageNetBackbone,
    ):
        fields.update(leaves("model.backbone", backbone))
    assert SPEC.keys() - {"network", "data", "model.attention"} == fields


def leaves(path: str, model: type[BaseModel]) -> Iterator[str]:
    return (f"{path}.{name}" for name in model.model_fields)
