"""`params`: parameter counts against the paper's."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from dia_repro.cli import options
from dia_repro.cli.output import notice, stdout
from dia_repro.errors import DONE, RUN_FAILED
from dia_repro.rendering.listing import Column, field, listing, plain
from dia_repro.rendering.records import to_csv, to_json

FIELDS = ("artifact", "row", "column", "paper_millions", "parameters", "macs", "matches", "note")
COLUMNS = (
    *plain("artifact", "row", "column"),
    Column("paper (M)", field("paper_millions"), right=True),
    Column("counted", field("parameters", "{:,}"), right=True),
    Column("MMAC", lambda r: f"{r['macs'] / 1e6:,.1f}", right=True),
    Column(
        "", lambda r: "" if r["matches"] is not False else "known misprint" if r["note"] else "OFF"
    ),
)
UNIT_COLUMNS = (
    Column("N", field("channels"), right=True),
    Column("r", field("reduction"), right=True),
    Column("8N²", field("lstm_formula", "{:,}"), right=True),
    Column("LSTM", field("lstm_weights", "{:,}"), right=True),
    Column("biases", field("lstm_biases", "{:,}"), right=True),
    Column("10N²/r", field("dia_formula", "{:,}"), right=True),
    Column("DIA-LSTM", field("dia_weights", "{:,}"), right=True),
    Column("biases", field("dia_biases", "{:,}"), right=True),
)


@options.with_options
def params(
    selection: Annotated[options.Selection, options.COUNTED],
    artifacts: options.AnyArtifacts = None,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Compare the networks' parameter counts with the paper's; trains nothing.

    MMAC: millions of multiply-accumulates of the forward pass of one image. Below, the paper's
    formulas for a unit's cost against real modules. csv gives the networks, json both.

    Exits with 1 where a count differs from the print and is not a known misprint.

    Example: dia-repro params table5
    """
    from dia_repro.artifacts import choose

    chosen = choose(artifacts or ["all"], selection.attention)
    from dia_repro.analysis.parameters import parameter_counts, unit_costs
    from dia_repro.execution.requests import narrowed

    counts = parameter_counts(narrowed(chosen, selection.only))
    networks = [asdict(count) for count in counts]
    units = [asdict(cost) for cost in unit_costs()]
    if format_ is options.Format.CSV:
        sys.stdout.write(to_csv(FIELDS, networks))
    elif format_ is options.Format.JSON:
        sys.stdout.write(to_json({"networks": networks, "units": units}))
    else:
        stdout().print(listing(COLUMNS, networks))
        for one in counts:
            if one.note:
                notice(f"{one.artifact} {one.row} {one.column}: {one.note}.")
        stdout().print("\nA unit's weights by the paper's formulas, and in real modules:\n")
        stdout().print(listing(UNIT_COLUMNS, units))
    printed = [count for count in counts if count.paper_millions]
    matching = sum(count.matches is True for count in printed)
    off = sum(not count.acceptable for count in printed)
    misprints = len(printed) - matching - off
    notice(
        f"{matching} of {len(printed)} counts are the paper's to the last digit printed; "
        f"{misprints} are known misprints, {off} are off."
    )
    raise typer.Exit(RUN_FAILED if off else DONE)
