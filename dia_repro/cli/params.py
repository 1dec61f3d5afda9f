"""`params`: parameter counts against the paper's."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from dia_repro.cli import options
from dia_repro.cli.output import emit, notice
from dia_repro.errors import DONE, RUN_FAILED
from dia_repro.rendering.listing import Column, field, listing

FIELDS = ("artifact", "row", "column", "paper_millions", "parameters", "matches", "note")
COLUMNS = (
    Column("artifact", field("artifact")),
    Column("row", field("row")),
    Column("column", field("column")),
    Column("paper (M)", field("paper_millions"), right=True),
    Column("counted", field("parameters", "{:,}"), right=True),
    Column("matches", lambda r: "yes" if r["matches"] else "no"),
    Column("note", field("note")),
)


def params(
    artifacts: Annotated[
        list[str] | None, typer.Argument(help="Tables of the paper, e.g. table5; by default all.")
    ] = None,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Compare the networks' parameter counts with the paper's; trains nothing.

    Exits with 1 where a count differs from the print and is not a known misprint.

    Example: dia-repro params table5
    """
    from dia_repro.artifacts import choose

    chosen = choose(artifacts or ["all"])
    from dia_repro.analysis.parameters import parameter_counts

    counts = parameter_counts(chosen)
    records = [asdict(count) for count in counts]
    emit(format_, FIELDS, records, listing(COLUMNS, records))
    off = [count for count in counts if not count.acceptable]
    if off:
        notice(f"{len(off)} of {len(counts)} counts differ from the paper's print.")
    raise typer.Exit(RUN_FAILED if off else DONE)
