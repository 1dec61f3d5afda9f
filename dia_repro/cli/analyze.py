"""`analyze`: what trained networks look like inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dia_repro.cli import gradients as figure6
from dia_repro.cli import integration as figure5
from dia_repro.cli import options, starting
from dia_repro.cli.output import emit
from dia_repro.rendering.listing import listing

if TYPE_CHECKING:
    from dia_repro.results.database import Database

app = typer.Typer(help="What trained networks look like inside.", no_args_is_help=True)


@app.command()
def gini(
    stage: Annotated[
        int | None, typer.Option("--stage", min=1, help="By default all that have a DIA unit.")
    ] = None,
    run: Annotated[
        int | None,
        typer.Option("--run", help="Its number; by default the best of Figure 5's network."),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", min=1, help="Test images; all where there are fewer.")
    ] = figure5.SAMPLES,
    trees: Annotated[
        int, typer.Option("--trees", min=1, help="Of each random forest.")
    ] = figure5.TREES,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Of the choice of images and of the forests.")
    ] = 0,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Threads; by default one for each core.")
    ] = None,
    controls: Annotated[
        bool,
        typer.Option(
            "--controls/--no-controls",
            help="Also before training, and with the states of each layer shuffled across images: "
            "what the method shows where nothing is learned.",
        ),
    ] = True,
    library: Annotated[
        bool,
        typer.Option(
            "--library", help="Have scikit-learn grow the trees: the same estimator, slower."
        ),
    ] = False,
    figures: Annotated[
        Path, typer.Option("--figures", help="Folder for figure5.pdf, .png and .csv.")
    ] = Path("figures"),
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    checkpoints: options.CheckpointsOption = None,
    data: options.DataFolder = options.DEFAULT_DATA,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Feature integration (Figure 5): from which earlier layers a layer's state can be told.

    What was computed before is taken from the database; an analysis that was interrupted goes on.

    Example: dia-repro analyze gini --stage 3
    """
    records = figure5.draw_integration(
        open_at(db),
        data,
        figures,
        checkpoints,
        run,
        stage,
        samples,
        trees,
        seed,
        jobs,
        controls,
        library,
    )
    emit(format_, figure5.SUMMARY_FIELDS, records, listing(figure5.COLUMNS, records))


def open_at(db: str) -> Database:
    """The results database, which may not be there yet."""
    from dia_repro.results.database import open_database

    return open_database(db, create=False)


@app.command()
def gradients(
    run: Annotated[
        list[int] | None,
        typer.Option(
            "--run",
            help="Numbers of runs to compare; by default the best of each of Figure 6's networks.",
        ),
    ] = None,
    figures: Annotated[
        Path, typer.Option("--figures", help="Folder for figure6.pdf, .png and .csv.")
    ] = Path("figures"),
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Gradients at the stages' outputs without skips (Figure 6), first and last in training.

    Networks without skips record them while they train: at the first batch of every epoch.

    Example: dia-repro analyze gradients
    """
    records, ends = figure6.draw_gradients(open_at(db), figures, run or [])
    emit(format_, figure6.FIELDS, records, listing(figure6.COLUMNS, ends))


app.command()(starting.start)
