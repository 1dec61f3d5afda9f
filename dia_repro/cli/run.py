"""`run` trains what artifacts need and the database lacks; `plan` says what that would cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from dia_repro.cli import options
from dia_repro.cli.environment import own_command
from dia_repro.cli.output import duration, emit, notice, stdout
from dia_repro.cli.progress import Terminal
from dia_repro.experiments.names import Keep
from dia_repro.rendering.listing import Column, field, listing

if TYPE_CHECKING:
    from dia_repro.execution.planning import Plan

COLUMNS = (
    Column("network", field("network")),
    Column("data", field("data")),
    Column("for", field("artifacts")),
    Column("seed", field("seed"), right=True),
    Column("state", field("state")),
    Column("epochs", lambda r: f"{r['epochs_done']}/{r['epochs']}", right=True),
    Column("#P (M)", lambda r: f"{r['parameters'] / 1e6:.2f}", right=True),
    Column("TMAC", lambda r: f"{r['macs'] / 1e12:,.1f}", right=True),
    Column("time left", field("seconds_left", duration), right=True),
)
SHARING_COLUMNS = (
    Column("artifact", field("artifact")),
    Column("networks", field("specs"), right=True),
    Column("shared with those above", field("shared"), right=True),
    Column("adds", field("adds"), right=True),
    Column("runs to train", field("open"), right=True),
    Column("time left", field("seconds_left", duration), right=True),
)


@options.with_options
def run(
    artifacts: options.Artifacts,
    selection: options.Selection,
    resources: options.Resources,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    checkpoints: options.CheckpointsOption = None,
    data: options.DataFolder = options.DEFAULT_DATA,
    deterministic: Annotated[
        bool,
        Option(
            "--deterministic",
            help="On a GPU too, the same bits every time on the same machine; a little slower.",
        ),
    ] = False,
    keep: Annotated[
        Keep,
        Option(help="Which weights stay on the disk when a run is done; analyze gini needs some."),
    ] = Keep.LAST,
    yes: Annotated[
        bool, Option("--yes", help="Start long trainings on a CPU without asking.")
    ] = False,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Only say what would be trained, like plan.")
    ] = False,
) -> None:
    """Train the networks that tables or figures need and the database lacks.

    Every epoch is kept: the same command goes on where Ctrl-C or a crash stopped it.

    Example: dia-repro run table5 --protocol demo
    """
    from dia_repro.artifacts import choose

    choose(artifacts, selection.attention)  # before torch is loaded, which takes seconds
    from dia_repro.execution.campaign import Campaign

    campaign = Campaign(artifacts, selection, resources, db, data, checkpoints, Terminal())
    if dry_run:
        print_plan(campaign.plan(), options.Format.TABLE)
        return
    summary = campaign.run(own_command(), deterministic=deterministic, keep=keep, yes=yes)
    for sentence in summary.sentences:
        notice(sentence)
    raise typer.Exit(summary.exit_code)


@options.with_options
def plan(
    artifacts: options.Artifacts,
    selection: options.Selection,
    resources: options.Resources,
    price: Annotated[
        float | None,
        Option(min=0, max=1e6, help="Of an hour of one GPU, or of this machine's CPU."),
    ] = None,
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

    campaign = Campaign(artifacts, selection, resources, db, data, dialogue=Terminal())
    print_plan(campaign.plan(), format_, price)


def print_plan(plan: Plan, format_: options.Format, price: float | None = None) -> None:
    """Print the runs, what the artifacts share, and the cost of what is left."""
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
