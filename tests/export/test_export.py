"""The exported files hold what the database holds, and schema.json says what it is."""

from __future__ import annotations

import csv
import errno
import json
import math
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import pytest
from pyarrow import parquet
from pydantic import BaseModel
from sqlalchemy import inspect, select

from dia_repro.artifacts import ARTIFACTS
from dia_repro.cli import main as entry
from dia_repro.experiments.describe import describe_data, describe_model
from dia_repro.experiments.protocols import own_images
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
    Spec,
    WRNBackbone,
)
from dia_repro.export import folder as export_folder
from dia_repro.export import formats, rows
from dia_repro.export.columns import ATTEMPTS, EPOCHS, RUNS, TABLES
from dia_repro.export.folder import FilesThereError, export_database
from dia_repro.export.formats import Format
from dia_repro.rendering.files import OutputError
from dia_repro.results.database import Database, open_database
from dia_repro.results.queries import all_runs
from dia_repro.results.schema import EpochRow, ProvenanceRow, Real, RunRow, SpecRow, State
from tests.artifacts.test_table5 import PAPER
from tests.helpers import cli, one_line, tiny_spec
from tests.results.test_writer import PROVENANCE

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
    own_spec = tiny_spec(attention=SEAttention(kind="se"), milestones=())
    return [
        *(ARTIFACTS["table3"].specs(PAPER).values()),
        tiny_spec(),
        own_spec.model_copy(update={"data": own}),
    ]


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """Runs in every state, with figures and texts of every kind."""
    database = open_database(str(tmp_path / "runs.db"), create=True)
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


def write(database: Database, folder: Path, format_: Format, **options: Any) -> dict[str, int]:
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


def read(folder: Path, name: str, format_: Format) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Header and rows of an exported table, typed as schema.json says."""
    columns = described(folder)[name]
    path = folder / f"{name}.{format_}"
    if format_ is Format.CSV:
        with path.open(encoding="utf-8", newline="") as file:
            header, *lines = csv.reader(file)
        return header, [tuple(map(parse, columns, line)) for line in lines]
    if format_ is Format.PARQUET:
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


@pytest.mark.parametrize("format_", list(Format))
def test_an_empty_database_gives_headers_and_says_so(format_: Format, tmp_path: Path) -> None:
    result = cli("runs", "export", "out", "--format", format_, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert "No runs in runs.db yet" in result.stderr
    assert not (tmp_path / "runs.db").exists()
    for table in TABLES:
        header, found = read(tmp_path / "out", table.name, format_)
        assert found == []
        if format_ is not Format.JSON:
            assert header == list(table.names)


def test_the_command_says_what_it_wrote_and_overwrites_only_when_told(
    database: Database, tmp_path: Path
) -> None:
    first = cli("runs", "export", "out", cwd=tmp_path)
    assert (first.returncode, first.stdout) == (0, "")
    counts = {
        table.name: len(read(tmp_path / "out", table.name, Format.CSV)[1]) for table in TABLES
    }
    for name, count in counts.items():
        assert f"{count} {name}" in first.stderr
    (tmp_path / "out" / "epochs.csv").write_text("mine")
    (tmp_path / "out" / "runs.csv").unlink()
    refused = cli("runs", "export", "out", cwd=tmp_path)
    assert refused.returncode == 2
    assert one_line(refused.stderr)
    assert "epochs.csv, attempts.csv already: add --overwrite" in refused.stderr
    assert (tmp_path / "out" / "epochs.csv").read_text() == "mine"
    assert not (tmp_path / "out" / "runs.csv").exists()
    assert cli("runs", "export", "out", "--overwrite", cwd=tmp_path).returncode == 0
    assert len(read(tmp_path / "out", "epochs", Format.CSV)[1]) == counts["epochs"]
    assert cli("runs", "export", "out", "--format", "json", cwd=tmp_path).returncode == 0


def test_a_schema_that_is_somebody_elses_is_kept(database: Database, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text("{}")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FilesThereError, match=r"has schema\.json already"):
        write(database, tmp_path, Format.CSV)
    assert sorted(tmp_path.iterdir()) == before
    (tmp_path / "schema.json").write_bytes(b"\xff")
    with pytest.raises(FilesThereError, match=r"has schema\.json already"):
        write(database, tmp_path, Format.CSV)


def test_what_is_no_place_for_files_is_refused(database: Database, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FilesThereError, match="not a folder"):
        write(database, tmp_path / "file", Format.CSV)
    (tmp_path / "out" / "runs.csv").mkdir(parents=True)
    with pytest.raises(FilesThereError, match=r"runs\.csv is a folder"):
        write(database, tmp_path / "out", Format.CSV, overwrite=True)
    with pytest.raises(OutputError, match="cannot write to /proc/out"):
        write(database, Path("/proc/out"), Format.CSV)
    with pytest.raises(OutputError, match="cannot write to"):
        write(database, tmp_path / "file" / "below", Format.CSV)


@pytest.mark.parametrize("problem", [OSError(errno.ENOSPC, "disk full"), KeyboardInterrupt()])
def test_an_export_that_breaks_off_leaves_earlier_files_as_they_were(
    problem: BaseException,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    write(database, out, Format.CSV)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    real = formats.write_table

    def breaks(format_: Format, file: IO[bytes], table: Any, found: Any) -> None:
        real(format_, file, table, found)
        if table is EPOCHS:
            raise problem

    monkeypatch.setattr(export_folder, "write_table", breaks)
    with database.writing() as session:
        session.scalars(select(RunRow)).all()[0].reason = "changed meanwhile"
    with pytest.raises((OutputError, KeyboardInterrupt)):
        write(database, out, Format.CSV, overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_progress_counts_to_the_end(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "BATCH", 10)
    told: list[tuple[int, int]] = []
    counts = write(
        database, tmp_path / "out", Format.CSV, on_progress=lambda *done: told.append(done)
    )
    assert len(told) > 3
    assert told == sorted(told)
    assert told[-1] == (sum(counts.values()),) * 2


def test_without_pyarrow_one_line_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.chdir(tmp_path)
    command = ["dia-repro", "runs", "export", "out", "--format", "parquet"]
    monkeypatch.setattr(sys, "argv", command)
    assert entry._run() == 3
    errors = capfd.readouterr().err
    assert one_line(errors)
    assert "pip install 'dia-repro[parquet]'" in errors
    assert list(tmp_path.iterdir()) == []
