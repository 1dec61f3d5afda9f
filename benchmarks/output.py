"""Measurements as they come in: shown, and written to a file as it grows."""

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
    from benchmarks.step.suites import Measurement

OutOption = Annotated[
    Path, typer.Option("--out", help="JSON file for the figures and what they were taken on.")
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


def check_place(out: Path) -> None:
    """Refuse a file for the figures now rather than when all is measured.

    Raises:
        UsageError: the file's folder does not exist.
    """
    if not out.parent.is_dir():
        raise UsageError(f"--out {out}: the folder {out.parent} does not exist")


def take(
    source: Iterable[Measurement],
    circumstances: Mapping[str, Any],
    out: Path,
    format_: options.Format,
) -> None:
    """Measure all there is to measure."""
    records: list[dict[str, Any]] = []
    with stderr().status("Measuring …") as status:
        for one in source:
            records.append(asdict(one) | {"met": one.met})
            # Written as it grows: what was measured survives whatever stops the rest.
            content = {"circumstances": circumstances, "measurements": records}
            out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            status.update(f"Measured {one.name}")
    emit(format_, FIELDS, records, listing(COLUMNS, records))
    notice(f"{len(records)} figures are in {out}.")


def _goal(least: float | None, most: float | None) -> str:
    return f"≥ {least:,.4g}" if least is not None else f"≤ {most:,.4g}" if most is not None else ""
