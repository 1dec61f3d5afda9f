"""Records for programs: CSV and JSON, one record a line or list item."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from dia_repro.rendering.escaping import json_text, visible, without_formula

Record = Mapping[str, Any]


class FileFormat(StrEnum):
    """Kind of file that other programs read."""

    CSV = "csv"
    PARQUET = "parquet"
    JSON = "json"


def to_csv(fields: Sequence[str], records: Sequence[Record]) -> str:
    """Return CSV with a header; a missing value is empty, nan is `nan`."""
    out = io.StringIO()
    writer = csv.DictWriter(out, fields, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _field(record[name]) for name in fields} for record in records)
    return out.getvalue()


def to_json(value: Record | Sequence[Record]) -> str:
    """Return JSON for any reader: numbers that are not finite are `"nan"`, `"inf"` or `"-inf"`."""
    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    return json_text(text) + "\n"


def _field(value: Any) -> Any:
    """Return a field of CSV; texts are made harmless, numbers stay numbers."""
    return without_formula(visible(value)) if isinstance(value, str) else plain(value)


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: not finite numbers as texts, times in ISO 8601."""
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds") + "Z"
    return value
