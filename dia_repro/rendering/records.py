"""Records for programs: CSV and JSON, one record a line or list item."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
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


class Tracker(StrEnum):
    """A tracker of experiments."""

    TENSORBOARD = "tensorboard"
    WANDB = "wandb"


def to_csv(fields: Sequence[str], records: Sequence[Record]) -> str:
    """Return CSV with a header; a missing value is empty, nan is `nan`, texts are harmless."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(fields)
    writer.writerows([plain(record[name], _harmless) for name in fields] for record in records)
    return out.getvalue()


def _harmless(text: str) -> str:
    return without_formula(visible(text))


def to_json(value: Record | Sequence[Record]) -> str:
    """Return JSON for any reader: numbers that are not finite are `"nan"`, `"inf"` or `"-inf"`."""
    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    return json_text(text) + "\n"


def plain(value: Any, texts: Callable[[str], str] = str) -> Any:
    """Return a value as JSON can hold it: not finite numbers as texts, times in ISO 8601.

    Args:
        texts: what is done to each text that is no key.
    """
    match value:
        case str():
            return texts(value)
        case Mapping():
            return {key: plain(inner, texts) for key, inner in value.items()}
        case list() | tuple():
            return [plain(inner, texts) for inner in value]
        case float() if not math.isfinite(value):
            return str(value)
        case datetime():
            return value.isoformat(timespec="seconds") + "Z"
    return value
