"""`explain` says where a cell of a table comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dia_repro.cli import options
from dia_repro.cli.output import emit
from dia_repro.cli.requests import choose_data, repeated
from dia_repro.errors import UsageError
from dia_repro.experiments.names import Protocol

if TYPE_CHECKING:
    from dia_repro.artifacts.explanation import Experiment, Explanation
    from dia_repro.experiments.protocols import Request


class OneArtifactError(UsageError):
    """A cell is in one artifact."""


def explain(
    artifact: Annotated[str, typer.Argument(help="A table or figure of the paper, e.g. table5.")],
    row: Annotated[str, typer.Argument(help="The cell's row, e.g. ResNet164; a part will do.")],
    column: Annotated[
        str, typer.Argument(help="Its column, e.g. DIANet; row and column in either order.")
    ],
    metric: Annotated[
        str | None,
        typer.Argument(
            help="One of its figures, e.g. top1_last; by default all.", metavar="METRIC"
        ),
    ] = None,
    protocol: options.ShownProtocol = None,
    seeds: options.ShownSeeds = None,
    epochs: options.Epochs = None,
    dataset: options.Dataset = None,
    image_size: options.ImageSize = None,
    skip_damaged: options.SkipDamaged = False,
    precision: options.ShownPrecision = None,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    data: options.DataFolder = options.DEFAULT_DATA,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Say which runs, seeds and epochs a cell of a table comes from, and how to train them.

    As csv or json: one record for each figure and run.

    Example: dia-repro explain table5 DIANet 164
    """
    from dia_repro.artifacts import choose
    from dia_repro.artifacts.explanation import explain as explain_cell
    from dia_repro.artifacts.lookup import find_entry
    from dia_repro.artifacts.selection import Wanted, best_covered
    from dia_repro.rendering.explanations import (
        EXPLANATION_FIELDS,
        explanation_records,
        to_people,
    )
    from dia_repro.results.database import open_database

    chosen = choose([artifact])
    if len(chosen) > 1:
        raise OneArtifactError("explain takes one table or figure: a cell is in one")
    entry = find_entry(chosen[0], row, column)
    database = open_database(db, create=False)
    own = choose_data(dataset, image_size, data, skip_damaged=skip_damaged, database=database)
    request = best_covered(chosen[0], database, Wanted(protocol, precision, own, epochs))
    found = explain_cell(chosen[0], database, request, entry, metric=metric, seeds=seeds)
    asked = repeated(
        {
            "--epochs": epochs,
            "--dataset": dataset,
            "--image-size": image_size,
            "--db": None if db == options.DEFAULT_DATABASE else database.name,
            "--data": None if data == options.DEFAULT_DATA else data,
        }
    )
    asked += " --skip-damaged" if skip_damaged else ""
    commands = {one.spec.spec_id: training_command(found, one, asked) for one in found.experiments}
    records = explanation_records(found, commands)
    emit(format_, EXPLANATION_FIELDS, records, to_people(found, commands))


def training_command(explanation: Explanation, experiment: Experiment, asked: str) -> str:
    """The command that trains one experiment of an explained cell, and no other.

    Args:
        asked: options that were given to choose it, as `repeated` writes them.
    """
    about = explanation.artifact, explanation.request, explanation.seeds
    return command_to_train(*about, experiment, asked)


def command_to_train(
    artifact: str, request: Request, seeds: int, experiment: Experiment, asked: str
) -> str:
    """As `training_command`, from what it needs."""
    said = repeated(
        {
            "--protocol": None if request.protocol is Protocol.PAPER else request.protocol.value,
            "--seeds": None if seeds == 1 else seeds,
            "--precision": experiment.spec.precision if experiment.precision_said else None,
        }
    )
    return f'dia-repro run {artifact}{said} --only "{experiment.words}"{asked}'
