"""`explain` says where a cell of a table comes from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from dia_repro.cli import options
from dia_repro.cli.output import emit
from dia_repro.cli.progress import Terminal
from dia_repro.errors import UsageError
from dia_repro.execution.options import command_line
from dia_repro.experiments.names import Precision, Protocol

if TYPE_CHECKING:
    from dia_repro.artifacts import TableValue
    from dia_repro.artifacts.explanation import Experiment


class OneArtifactError(UsageError):
    """A cell is in one artifact."""


@options.with_options
def explain(
    artifact: Annotated[str, typer.Argument(help="A table or figure of the paper, e.g. table5.")],
    row: Annotated[str, typer.Argument(help="The cell's row, e.g. ResNet164; a part will do.")],
    column: Annotated[
        str, typer.Argument(help="Its column, e.g. DIANet; row and column in either order.")
    ],
    selection: Annotated[options.Selection, options.EXPLAINED],
    metric: Annotated[
        str | None,
        typer.Argument(help="One of its values, e.g. top1_last; by default all.", metavar="METRIC"),
    ] = None,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    data: options.DataFolder = options.DEFAULT_DATA,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Say which runs, seeds and epochs a cell of a table comes from, and how to train them.

    As csv or json: one record for each value and run.

    Example: dia-repro explain table5 DIANet 164
    """
    from dia_repro.artifacts import choose
    from dia_repro.artifacts.explanation import explain as explain_cell
    from dia_repro.artifacts.lookup import find_entry
    from dia_repro.artifacts.selection import best_covered
    from dia_repro.execution.requests import find_data, wanted
    from dia_repro.rendering.explanations import EXPLANATION_FIELDS, explanation_records, to_people
    from dia_repro.results.database import open_database

    chosen = choose([artifact], selection.attention)
    if len(chosen) > 1:
        raise OneArtifactError("explain takes one table or figure: a cell is in one")
    entry = find_entry(chosen[0], row, column)
    database = open_database(db, create=False)
    own = find_data(selection, data, Terminal(), database)
    request = best_covered(chosen[0], database, wanted(selection, own))
    found = explain_cell(chosen[0], database, request, entry, metric=metric, seeds=selection.seeds)
    places = {
        "db": None if db == options.DEFAULT_DATABASE else database.name,
        "data": None if data == options.DEFAULT_DATA else data,
    }
    commands = {
        one.spec.spec_id: training_command(found.value, one, selection, **places)
        for one in found.experiments
    }
    records = explanation_records(found, commands)
    emit(format_, EXPLANATION_FIELDS, records, to_people(found, commands))


def training_command(
    value: TableValue,
    experiment: Experiment,
    selection: options.Selection,
    **places: object,
) -> str:
    """Return the command that trains one experiment of an artifact, and no other.

    Args:
        selection: as the experiment was chosen by.
        places: further options of it, by name.
    """
    request, seeds = value.request, value.seeds
    chosen = replace(
        selection,
        protocol=None if request.protocol is Protocol.PAPER else request.protocol,
        seeds=None if seeds == 1 else seeds,
        only=(experiment.words,),
        precision=Precision(experiment.spec.precision) if experiment.precision_said else None,
    )
    return command_line("run", value.artifact.name, options=chosen, **places)
