"""Output of measurements as they are taken: a table, and a file that grows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dia_repro.cli import options
from dia_repro.cli.output import emit, notice, stderr
from dia_repro.errors import UsageError
from dia_repro.rendering.listing import Column, field, listing

if TYPE_CHECKING:
    from benchmarks.measurements import Measurement

OutOption = Annotated[
    Path,
    typer.Option("--out", help="JSON file for the values and the environment."),
]

FIELDS = ("name", "value", "unit", "least", "most", "met", "how")
MET = {None: "", True: "yes", False: "NO"}
COLUMNS = (
    Column("measured", field("name")),
    Column("value", lambda r: f"{r['value']:,.4g}", right=True),
    Column("", field("unit")),
    Column("goal", lambda r: _goal(r["least"], r["most"]), right=True),
    Column("met", lambda r: MET[r["met"]]),
    Column("how", field("how")),
)


def check_folder(out: Path) -> None:
    """Refuse an output file whose folder is missing before anything is measured.

    Raises:
        UsageError: the file's folder does not exist.
    """
    if not out.parent.is_dir():
        raise UsageError(f"--out {out}: the folder {out.parent} does not exist")


def measure(
    source: Iterable[Measurement],
    environment: Mapping[str, Any],
    out: Path,
    format_: options.Format,
) -> None:
    """Take all measurements, write them to `out` and print them."""
    records: list[dict[str, Any]] = []
    with stderr().status("Measuring …") as status:
        for measurement in source:
            records.append(asdict(measurement) | {"met": measurement.met})
            # Written as it grows: what was measured survives whatever stops the rest.
            content = {"environment": environment, "measurements": records}
            out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            status.update(f"Measured {measurement.name}")
    emit(format_, FIELDS, records, listing(COLUMNS, records))
    notice(f"{len(records)} values are in {out}.")


def _goal(least: float | None, most: float | None) -> str:
    return f"≥ {least:,.4g}" if least is not None else f"≤ {most:,.4g}" if most is not None else ""
