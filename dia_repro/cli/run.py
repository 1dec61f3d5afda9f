"""`run`, `plan` and `params`: trainings that artifacts need, their cost, their networks' sizes."""

from __future__ import annotations

import sys
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from dia_repro.cli import options
from dia_repro.cli.environment import own_command
from dia_repro.cli.output import emit, notice, stdout
from dia_repro.cli.progress import Quiet, Terminal
from dia_repro.errors import DONE, RUN_FAILED
from dia_repro.execution.dialogue import duration
from dia_repro.experiments.names import Keep
from dia_repro.rendering.listing import Column, field, listing, plain
from dia_repro.rendering.records import to_json

if TYPE_CHECKING:
    from dia_repro.execution.planning import Plan

COLUMNS = (
    *plain("network", "data"),
    Column("for", field("artifacts")),
    *plain("seed", right=True),
    *plain("state"),
    Column("epochs", lambda r: f"{r['epochs_done']}/{r['epochs']}", right=True),
    Column("#P (M)", lambda r: f"{r['parameters'] / 1e6:.2f}", right=True),
    Column("TMAC", lambda r: f"{r['macs'] / 1e12:,.1f}", right=True),
    Column("time left", field("seconds_left", duration), right=True),
)
SHARING_COLUMNS = (
    *plain("artifact"),
    Column("networks", field("specs"), right=True),
    Column("shared with those above", field("shared"), right=True),
    Column("adds", field("adds"), right=True),
    Column("runs to train", field("open"), right=True),
    Column("time left", field("seconds_left", duration), right=True),
)
COUNT_COLUMNS = (
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
def run(
    artifacts: options.Artifacts,
    selection: options.Selection,
    resources: options.Resources,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    checkpoints: options.CheckpointsOption = None,
    data: options.DataFolder = options.DEFAULT_DATA,
    deterministic: bool = Option(
        False,
        "--deterministic",
        help="On a GPU too, the same bits every time on the same machine; a little slower.",
    ),
    keep: Keep = Option(
        Keep.LAST,
        help="Which weights stay on the disk when a run is done; analyze gini needs some.",
    ),
    yes: bool = Option(False, "--yes", help="Start long trainings on a CPU without asking."),
    dry_run: bool = Option(False, "--dry-run", help="Only say what would be trained, like plan."),
    quiet: bool = Option(False, "--quiet", help="Say only what fails, and ask if need be."),
) -> None:
    """Train the networks that tables or figures need and the database lacks.

    Every epoch is kept: the same command goes on where Ctrl-C or a crash stopped it.

    Example: dia-repro run table5 --protocol demo
    """
    from dia_repro.artifacts import choose

    choose(artifacts, selection.attention)  # before torch is loaded, which takes seconds
    from dia_repro.execution.campaign import Campaign

    dialogue = Quiet() if quiet else Terminal()
    campaign = Campaign(artifacts, selection, resources, db, data, checkpoints, dialogue)
    if dry_run:
        print_plan(campaign.plan(), options.Format.TABLE)
        return
    summary = campaign.run(own_command(), deterministic=deterministic, keep=keep, yes=yes)
    for sentence in summary.sentences if summary.exit_code or not quiet else ():
        notice(sentence)
    raise typer.Exit(summary.exit_code)


@options.with_options
def plan(
    artifacts: options.Artifacts,
    selection: options.Selection,
    resources: options.Resources,
    price: float | None = Option(
        None, min=0, max=1e6, help="Of an hour of one GPU, or of this machine's CPU."
    ),
    on: str | None = Option(
        None,
        "--on",
        help="A GPU that need not be here, e.g. a100: an estimate from its maker's figures; "
        "--jobs 8 is for eight of them.",
        metavar="GPU",
    ),
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    data: options.DataFolder = options.DEFAULT_DATA,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Say which runs tables or figures need, which are done, and what the rest would cost.

    Trains nothing but a few steps to see how fast this machine is.

    Example: dia-repro plan table5
    """
    from dia_repro.artifacts import choose

    choose(artifacts, selection.attention)  # before torch is loaded, which takes seconds
    from dia_repro.execution.campaign import Campaign

    campaign = Campaign(artifacts, selection, resources, db, data, dialogue=Terminal(), on=on)
    print_plan(campaign.plan(), format_, price)


def print_plan(plan: Plan, format_: options.Format, price: float | None = None) -> None:
    """Print the runs, the networks that artifacts share, and the cost of the runs to train."""
    from dia_repro.execution.planning import FIELDS

    records = plan.records()
    emit(format_, FIELDS, records, listing(COLUMNS, records))
    if format_ is not options.Format.TABLE:
        return
    if len(plan.artifacts) > 1:
        stdout().print()
        stdout().print(listing(SHARING_COLUMNS, plan.sharing()))
    notice(plan.cost(price))
    for sentence in plan.data_paths:
        notice(sentence)


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
    from dia_repro.analysis.parameters import ParameterCount, parameter_counts, unit_costs
    from dia_repro.execution.requests import narrowed

    counts = parameter_counts(narrowed(chosen, selection.only))
    networks = [asdict(count) for count in counts]
    units = [asdict(cost) for cost in unit_costs()]
    if format_ is options.Format.JSON:
        sys.stdout.write(to_json({"networks": networks, "units": units}))
    else:
        names = [counted.name for counted in fields(ParameterCount)]
        emit(format_, names, networks, listing(COUNT_COLUMNS, networks))
    if format_ is options.Format.TABLE:
        for count in counts:
            if count.note:
                notice(f"{count.artifact} {count.row} {count.column}: {count.note}.")
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
