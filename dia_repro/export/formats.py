"""Tables as CSV, JSON or Parquet, written batch by batch.

What is not finite stays what it is: in CSV and JSON it is the text `nan`, `inf` or `-inf`, in
Parquet the number itself. Figures are written with as many digits as give the same number back.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from typing import IO, Any

from dia_repro.errors import AbsentError
from dia_repro.export.columns import Column, Table, Type
from dia_repro.rendering.escaping import without_formula

Row = Sequence[Any]
Converters = Mapping[Type, Callable[[Any], Any]]

NOTES = {
    "csv": "An empty field of a nullable column is a missing value. Booleans are True and False; "
    "numbers that are not finite are nan, inf and -inf. A text that a "
    "spreadsheet would compute, as it begins with = + - or @, has an apostrophe in front.",
    "json": "A list of objects, one a line. A missing value is null; numbers that are not finite "
    'are the texts "nan", "inf" and "-inf".',
    "parquet": "A missing value is null; numbers that are not finite are themselves.",
    "time": "UTC: as 2026-01-31T12:00:00.000000Z in CSV and JSON, a timestamp in Parquet.",
}


class Format(StrEnum):
    """What other programs read."""

    CSV = "csv"
    PARQUET = "parquet"
    JSON = "json"


def check_available(format_: Format) -> None:
    """Find out before anything is written whether what the format needs is installed.

    Raises:
        AbsentError: it is not; the message names the extra.
    """
    if format_ is Format.PARQUET:
        try:
            import pyarrow.parquet  # noqa: F401
        except ModuleNotFoundError as error:
            raise AbsentError(
                "--format parquet needs the package pyarrow: pip install 'dia-repro[parquet]'"
            ) from error


def write_table(
    format_: Format, file: IO[bytes], table: Table, batches: Iterable[Sequence[Row]]
) -> None:
    """Write a table, its header even if there are no rows.

    Args:
        batches: rows with their values in the order of the table's columns.
    """
    writers = {Format.CSV: _write_csv, Format.JSON: _write_json, Format.PARQUET: _write_parquet}
    writers[format_](file, table, batches)


def schema_text(tables: Iterable[Table]) -> str:
    """JSON that describes every column of the tables: type, unit, meaning."""
    described = {
        table.name: {
            "meaning": table.meaning,
            "columns": [_described(column) for column in table.columns],
        }
        for table in tables
    }
    return json.dumps({"tables": described, "notes": NOTES}, indent=2, ensure_ascii=False) + "\n"


def _described(column: Column) -> dict[str, object]:
    names = ("name", "type", "unit", "nullable", "meaning")
    return {name: getattr(column, name) for name in names}


def _write_csv(file: IO[bytes], table: Table, batches: Iterable[Sequence[Row]]) -> None:
    with _as_text(file) as text:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(table.names)
        for batch in batches:
            writer.writerows(_converted(table, batch, {"time": _moment, "text": without_formula}))


def _write_json(file: IO[bytes], table: Table, batches: Iterable[Sequence[Row]]) -> None:
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
    names, separator = table.names, "[\n"
    with _as_text(file) as text:
        for batch in batches:
            rows = _converted(table, batch, {"time": _moment, "number": _finite_or_text})
            text.write(separator)
            text.write(",\n".join(encode(dict(zip(names, row, strict=True))) for row in rows))
            separator = ",\n"
        text.write("[]\n" if separator == "[\n" else "\n]\n")


def _write_parquet(file: IO[bytes], table: Table, batches: Iterable[Sequence[Row]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    types = {
        "integer": pa.int64(),
        "number": pa.float64(),
        "text": pa.string(),
        "boolean": pa.bool_(),
        "time": pa.timestamp("us", tz="UTC"),
    }
    fields = [
        pa.field(
            column.name,
            types[column.type],
            nullable=column.nullable,
            metadata={"unit": column.unit, "meaning": column.meaning},
        )
        for column in table.columns
    ]
    schema = pa.schema(fields)
    with parquet.ParquetWriter(file, schema) as writer:
        for batch in batches:
            values = zip(*batch, strict=True)
            columns = [pa.array(one, field.type) for one, field in zip(values, fields, strict=True)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


@contextmanager
def _as_text(file: IO[bytes]) -> Iterator[io.TextIOWrapper]:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    try:
        yield text
        text.flush()
    finally:
        text.detach()  # the file is its opener's to close


def _converted(table: Table, batch: Sequence[Row], converters: Converters) -> Iterable[Row]:
    """The rows with the values of some types converted; as they are where none has such a type."""
    wanted = {place: converters.get(c.type) for place, c in enumerate(table.columns)}
    if not any(wanted.values()):
        return batch
    columns = list(zip(*batch, strict=True))
    for place, convert in wanted.items():
        if convert:
            columns[place] = tuple(
                None if value is None else convert(value) for value in columns[place]
            )
    return zip(*columns, strict=True)


def _moment(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds") + "Z"


def _finite_or_text(number: float) -> float | str:
    return number if math.isfinite(number) else str(number)
