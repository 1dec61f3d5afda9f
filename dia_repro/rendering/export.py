"""The database as a folder of files for other programs: three tables, and what their columns mean.

What is not finite stays what it is: in CSV and JSON it is the text `nan`, `inf` or `-inf`, in
Parquet the number itself. Numbers are written with as many digits as give the same number back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING

from sqlalchemy.orm import Session

from dia_repro.errors import AbsentError, UsageError
from dia_repro.rendering.escaping import without_formula
from dia_repro.rendering.files import OutputError, replacing
from dia_repro.rendering.records import FileFormat, plain
from dia_repro.results.database import Database
from dia_repro.results.frames import ATTEMPTS, EPOCHS, RUNS, Table, count_rows, frame, rows_of

if TYPE_CHECKING:
    import pandas as pd

TABLES = (RUNS, EPOCHS, ATTEMPTS)
SCHEMA = "schema.json"
MOMENT = "%Y-%m-%dT%H:%M:%S.%fZ"
NOTES = {
    "csv": "An empty field of a nullable column is a missing value. Booleans are True and False; "
    "numbers that are not finite are nan, inf and -inf. A text that a "
    "spreadsheet would compute, as it begins with = + - or @, has an apostrophe in front.",
    "json": "A list of objects, one a line. A missing value is null; numbers that are not finite "
    'are the texts "nan", "inf" and "-inf".',
    "parquet": "A missing value is null; numbers that are not finite are themselves.",
    "time": "UTC: as 2026-01-31T12:00:00.000000Z in CSV and JSON, a timestamp in Parquet.",
}


class FilesThereError(UsageError):
    """Such files exist already, and overwriting was not asked for."""


def export_database(
    database: Database,
    folder: Path,
    format_: FileFormat,
    *,
    overwrite: bool,
    on_progress: Callable[[int, int], None],
) -> dict[str, int]:
    """Write all runs, epochs and attempts as they are at one moment, with `schema.json`.

    Runs under way go on; on SQLite they wait with what they want to record until it is done.

    Args:
        folder: made where there is none; other files in it stay.
        overwrite: whether earlier files of these names may be replaced.
        on_progress: called with how many of how many records are written.

    Returns:
        Records by table.

    Raises:
        FilesThereError: files are there already; nothing was touched.
        AbsentError: a package that the format needs is not installed; nothing was touched.
        OutputError: the folder cannot be written to; earlier files are as they were.
    """
    if format_ is FileFormat.PARQUET:
        try:
            import pyarrow.parquet  # noqa: F401
        except ModuleNotFoundError as error:
            raise AbsentError(
                "--format parquet needs the package pyarrow: pip install 'dia-repro[parquet]'"
            ) from error
    paths = [folder / f"{table.name}.{format_}" for table in TABLES]
    schema = schema_text()
    _check_folder(folder, paths, schema, overwrite)
    with replacing([*paths, folder / SCHEMA]) as files, database.reading() as session:
        counts = {table.name: count_rows(session, table) for table in TABLES}
        done, total = 0, sum(counts.values())
        for file, table in zip(files, TABLES, strict=False):
            for batch in write_table(format_, file, table, _frames(session, table)):
                done += batch
                on_progress(done, total)
        files[-1].write(schema.encode())
    return counts


def schema_text() -> str:
    """Return JSON that describes every column of the tables: type, unit, meaning."""
    described = {
        table.name: {"meaning": table.meaning, "columns": list(map(asdict, table.columns))}
        for table in TABLES
    }
    return json.dumps({"tables": described, "notes": NOTES}, indent=2, ensure_ascii=False) + "\n"


def _check_folder(folder: Path, paths: Sequence[Path], schema: str, overwrite: bool) -> None:
    try:
        if folder.exists() and not folder.is_dir():
            raise FilesThereError(f"{folder} is not a folder")
        there = [path for path in paths if path.exists()]
        described = folder / SCHEMA
        # The same description, of an export in another format, is no loss.
        if described.exists() and (described.is_dir() or described.read_bytes() != schema.encode()):
            there.append(described)
        folders = [path for path in there if path.is_dir()]
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}") from error
    if folders:
        raise FilesThereError(f"{folders[0]} is a folder")
    if there and not overwrite:
        names = ", ".join(path.name for path in there)
        raise FilesThereError(f"{folder} has {names} already: add --overwrite to replace them")


def _frames(session: Session, table: Table) -> Iterator[pd.DataFrame]:
    """Yield a table in parts, the first of them even where it has no rows."""
    parts = rows_of(session, table)
    yield frame(table, next(parts, ()))
    yield from (frame(table, rows) for rows in parts)


def write_table(
    format_: FileFormat, file: IO[bytes], table: Table, frames: Iterator[pd.DataFrame]
) -> Iterator[int]:
    """Write a table part by part; yield how many records each part had."""
    return WRITERS[format_](file, table, frames)


def _write_csv(file: IO[bytes], table: Table, frames: Iterator[pd.DataFrame]) -> Iterator[int]:
    texts = [column.name for column in table.columns if column.type == "text"]
    for number, part in enumerate(frames):
        part[texts] = part[texts].map(without_formula, na_action="ignore")
        csv = part.to_csv(header=not number, index=False, lineterminator="\n", date_format=MOMENT)
        file.write(csv.encode())
        yield len(part)


def _write_json(file: IO[bytes], table: Table, frames: Iterator[pd.DataFrame]) -> Iterator[int]:
    times = [column.name for column in table.columns if column.type == "time"]
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
    separator = "[\n"
    for part in frames:
        for name in times:
            part[name] = part[name].dt.strftime(MOMENT)
        for record in part.astype(object).where(part.notna(), None).to_dict("records"):
            file.write((separator + encode(plain(record))).encode())
            separator = ",\n"
        yield len(part)
    file.write(b"[]\n" if separator == "[\n" else b"\n]\n")


def _write_parquet(file: IO[bytes], table: Table, frames: Iterator[pd.DataFrame]) -> Iterator[int]:
    import pyarrow as pa
    from pyarrow import parquet

    types = {
        "integer": pa.int64(),
        "number": pa.float64(),
        "text": pa.string(),
        "boolean": pa.bool_(),
        "time": pa.timestamp("us", tz="UTC"),
    }
    schema = pa.schema(
        pa.field(
            column.name,
            types[column.type],
            nullable=column.nullable,
            metadata={"unit": column.unit, "meaning": column.meaning},
        )
        for column in table.columns
    )
    with parquet.ParquetWriter(file, schema) as writer:
        for part in frames:
            writer.write_table(pa.Table.from_pandas(part, schema=schema, preserve_index=False))
            yield len(part)


WRITERS = {
    FileFormat.CSV: _write_csv,
    FileFormat.JSON: _write_json,
    FileFormat.PARQUET: _write_parquet,
}
