"""`analyze`: what trained networks look like inside."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dia_repro.cli import options
from dia_repro.cli.circumstances import circumstances_of
from dia_repro.cli.output import emit, notice, stderr
from dia_repro.rendering.listing import Column, field, listing
from dia_repro.rendering.records import to_csv

if TYPE_CHECKING:
    from collections.abc import Callable

    from dia_repro.analysis.gini import Integration
    from dia_repro.analysis.stored import Analyst
    from dia_repro.experiments.spec import Spec
    from dia_repro.results.queries import RunDetail

app = typer.Typer(help="What trained networks look like inside.", no_args_is_help=True)

CELL_FIELDS = ("states", "stage", "target", "source", "value", "share")
SUMMARY_FIELDS = (
    "states",
    "stage",
    "layers",
    "density",
    "far_percent",
    "far_low",
    "far_high",
    "last_layer_draws_most_from",
)
COLUMNS = (
    Column("states", field("states")),
    Column("stage", field("stage"), right=True),
    Column("layers", field("layers"), right=True),
    Column("mean cell", lambda r: f"{r['density']:.3f}", right=True),
    Column(
        "from more than 3 back %",
        lambda r: f"{r['far_percent']:.1f} [{r['far_low']:.1f}, {r['far_high']:.1f}]",
        right=True,
    ),
    Column("last layer draws most from", field("last_layer_draws_most_from"), right=True),
)
STATES = {
    "trained": "trained",
    "initial": "before training",
    "shuffled": "shuffled across images",
}


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
    ] = 300,
    trees: Annotated[int, typer.Option("--trees", min=1, help="Of each random forest.")] = 30,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Of the choice of images and of the forests.")
    ] = 0,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Threads; by default one for each core.")
    ] = None,
    controls: Annotated[
        bool,
        typer.Option(
            help="Also before training, and with the states of each layer shuffled across images: "
            "what the method shows where nothing is learned."
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
    data: options.DataFolder = options.DEFAULT_DATA,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Feature integration (Figure 5): from which earlier layers a layer's state can be told.

    What was computed before is taken from the database; an analysis that was interrupted goes on.

    Example: dia-repro analyze gini --stage 3
    """
    from dia_repro.analysis.gini import Settings
    from dia_repro.analysis.states import Source

    analyst = _analyst(db, data, run, jobs)
    stages = analyst.stages(stage)
    sources = list(Source) if controls else [Source.TRAINED]
    found: list[Integration] = []
    with _progress() as watch:
        for source in sources:
            for one in stages:
                settings = Settings(one, source, samples, trees, seed, library)
                watching = watch(f"stage {one}, {STATES[source]}")
                found.append(analyst.integration(settings, watching))
    records = [_summary(one) for one in found]
    emit(format_, SUMMARY_FIELDS, records, listing(COLUMNS, records))
    _write(found, analyst.run, figures)


def _analyst(db: str, data: Path, run: int | None, jobs: int | None) -> Analyst:
    from dia_repro.results.database import open_database

    database = open_database(db, create=False)
    from dia_repro.analysis.stored import Analyst, choose_run

    chosen = choose_run(database, run)
    from dia_repro.execution.machine import find_machine
    from dia_repro.execution.planning import checkpoint_folder
    from dia_repro.experiments.names import DataLocation
    from dia_repro.training.checkpoint import run_folder

    machine = find_machine(options.Device.CPU)
    summary = chosen.summary
    return Analyst(
        database,
        chosen,
        DataLocation(data),
        run_folder(checkpoint_folder(database), summary.spec_id, summary.seed, summary.uid),
        jobs or machine.cores,
        json.dumps(circumstances_of(machine.device)),
    )


@contextmanager
def _progress() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """A bar for each part, with the time left; nothing where stderr is no terminal."""
    from rich.progress import Progress

    with Progress(console=stderr(), transient=True, disable=not stderr().is_terminal) as bars:

        def watch(label: str) -> Callable[[int, int], None]:
            task = bars.add_task(label, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield watch


def _summary(one: Integration) -> dict[str, Any]:
    far, low, high = one.far_share()
    return {
        "states": STATES[one.settings.source],
        "stage": one.settings.stage,
        "layers": one.layers,
        "density": one.density(),
        "far_percent": far,
        "far_low": low,
        "far_high": high,
        "last_layer_draws_most_from": one.main_source_of_last(),
    }


def _write(found: Sequence[Integration], run: RunDetail, figures: Path) -> None:
    from dia_repro.experiments.spec import Spec
    from dia_repro.rendering.files import write_bytes, write_text
    from dia_repro.rendering.heatmaps import Panel, draw_heatmaps, to_bytes

    rows: dict[str, list[Panel]] = {}
    for one in found:
        states = STATES[one.settings.source]
        title = f"stage {one.settings.stage}, {states}"
        rows.setdefault(states, []).append(Panel(title, one.matrix))
    spec = Spec.from_json(run.spec_json)
    figure = draw_heatmaps(list(rows.values()), _title(spec, run), _caption(found))
    write_text(figures / "figure5.csv", to_csv(CELL_FIELDS, list(_cells(found))))
    for kind in ("pdf", "png"):
        write_bytes(figures / f"figure5.{kind}", to_bytes(figure, kind))
    notice(f"Written: {figures / 'figure5'}.{{pdf,png,csv}}")


def _title(spec: Spec, run: RunDetail) -> str:
    from dia_repro.artifacts.figure5 import FIGURE5
    from dia_repro.experiments.describe import describe_data, describe_model

    papers = spec.data.dataset == FIGURE5.entries[0].dataset
    return (
        f"Figure 5. Feature integration: {describe_model(spec.model)} on "
        f"{describe_data(spec.data)}, {spec.recipe.epochs} epochs, run {run.summary.id}"
        f"{'' if papers else ' (not the paper’s data)'}"
    )


def _caption(found: Sequence[Integration]) -> str:
    first = found[0]
    settings = first.settings
    grown = "grown by scikit-learn" if settings.library else "scikit-learn's estimator"
    return (
        f"Random forests of {settings.trees} trees ({grown}, its defaults) on the hidden states of "
        f"{first.samples} test images, seed {settings.seed}. A row: from which source layers a "
        "target layer's state is told, the importances of a layer's channels added up, divided "
        "by the row's largest."
    )


def _cells(found: Sequence[Integration]) -> Iterator[dict[str, Any]]:
    for one in found:
        matrix = one.matrix
        for target, shares in one.shares.items():
            for source, share in enumerate(shares.mean(0), start=1):
                yield {
                    "states": one.settings.source.value,
                    "stage": one.settings.stage,
                    "target": target,
                    "source": source,
                    "value": float(matrix[target - 2, source - 1]),
                    "share": float(share),
                }
