"""Files are written whole or not at all, and nothing is overwritten unasked."""

from __future__ import annotations

import errno
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import pytest
from sqlalchemy import select

from dia_repro.cli import main as entry
from dia_repro.rendering import export
from dia_repro.rendering.export import TABLES, FilesThereError
from dia_repro.rendering.files import OutputError
from dia_repro.rendering.records import FileFormat
from dia_repro.results import frames
from dia_repro.results.database import Database, open_database
from dia_repro.results.frames import EPOCHS
from dia_repro.results.schema import RunRow
from tests.helpers import cli, one_line
from tests.rendering.exported import fill, read, write
from tests.results.rows import ensure


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """Runs in every state, with values and texts of every kind."""
    return fill(str(tmp_path / "runs.db"))


@pytest.mark.parametrize("format_", list(FileFormat))
def test_an_empty_database_gives_headers_and_says_so(format_: FileFormat, tmp_path: Path) -> None:
    result = cli("runs", "export", "out", "--format", format_, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert "No runs in runs.db yet" in result.stderr
    assert not (tmp_path / "runs.db").exists()
    for table in TABLES:
        header, found = read(tmp_path / "out", table.name, format_)
        assert found == []
        if format_ is not FileFormat.JSON:
            assert header == list(table.names)


def test_the_command_says_what_it_wrote_and_overwrites_only_when_told(
    database: Database, tmp_path: Path
) -> None:
    first = cli("runs", "export", "out", cwd=tmp_path)
    assert (first.returncode, first.stdout) == (0, "")
    counts = {
        table.name: len(read(tmp_path / "out", table.name, FileFormat.CSV)[1]) for table in TABLES
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
    assert len(read(tmp_path / "out", "epochs", FileFormat.CSV)[1]) == counts["epochs"]
    assert cli("runs", "export", "out", "--format", "json", cwd=tmp_path).returncode == 0


def test_a_schema_that_is_somebody_elses_is_kept(database: Database, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text("{}")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FilesThereError, match=r"has schema\.json already"):
        write(database, tmp_path, FileFormat.CSV)
    assert sorted(tmp_path.iterdir()) == before
    (tmp_path / "schema.json").write_bytes(b"\xff")
    with pytest.raises(FilesThereError, match=r"has schema\.json already"):
        write(database, tmp_path, FileFormat.CSV)


def test_what_is_no_place_for_files_is_refused(database: Database, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FilesThereError, match="not a folder"):
        write(database, tmp_path / "file", FileFormat.CSV)
    (tmp_path / "out" / "runs.csv").mkdir(parents=True)
    with pytest.raises(FilesThereError, match=r"runs\.csv is a folder"):
        write(database, tmp_path / "out", FileFormat.CSV, overwrite=True)
    with pytest.raises(OutputError, match="cannot write to /proc/out"):
        write(database, Path("/proc/out"), FileFormat.CSV)
    with pytest.raises(OutputError, match="cannot write to"):
        write(database, tmp_path / "file" / "below", FileFormat.CSV)


@pytest.mark.parametrize("problem", [OSError(errno.ENOSPC, "disk full"), KeyboardInterrupt()])
def test_an_export_that_breaks_off_leaves_earlier_files_as_they_were(
    problem: BaseException,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    write(database, out, FileFormat.CSV)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    real = export.write_table

    def breaks(format_: FileFormat, file: IO[bytes], table: Any, found: Any) -> Iterator[int]:
        yield from real(format_, file, table, found)
        if table is EPOCHS:
            raise problem

    monkeypatch.setattr(export, "write_table", breaks)
    with database.writing() as session:
        session.scalars(select(RunRow)).all()[0].reason = "changed meanwhile"
    with pytest.raises((OutputError, KeyboardInterrupt)):
        write(database, out, FileFormat.CSV, overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_progress_counts_to_the_end(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "BATCH", 10)
    told: list[tuple[int, int]] = []
    counts = write(
        database, tmp_path / "out", FileFormat.CSV, on_progress=lambda *done: told.append(done)
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


def test_a_run_whose_spec_is_gone_is_one_line(tmp_path: Path) -> None:
    with closing(open_database(str(tmp_path / "runs.db"), create=True)) as database:
        ensure(database)
    with sqlite3.connect(tmp_path / "runs.db") as connection:
        connection.execute("delete from specs")
    done = cli("runs", "export", "out", cwd=tmp_path)
    assert (done.returncode, one_line(done.stderr)) == (1, True), done.stderr
    assert "is gone: see 'dia-repro db check'" in done.stderr
