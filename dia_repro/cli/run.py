"""`run` trains what artifacts need and the database lacks."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Option

from dia_repro.cli import options
from dia_repro.cli.environment import own_command
from dia_repro.cli.output import notice
from dia_repro.cli.plan import print_plan
from dia_repro.cli.progress import Terminal
from dia_repro.experiments.names import Keep


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
