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
    from dia_repro.analysis.gradients import RecordedRun
    from dia_repro.analysis.statements import Statement
    from dia_repro.analysis.stored import Analyst
    from dia_repro.experiments.spec import Spec
    from dia_repro.rendering.histograms import Curve
    from dia_repro.results.database import Database
    from dia_repro.results.queries import RunDetail

app = typer.Typer(help="What trained networks look like inside.", no_args_is_help=True)

# Heatmaps of two forest seeds agree: Spearman's rank correlation over the cells of a stage is 0.957
# or more (DIANet164, demo protocol; with 60 trees 0.942). 100 trees are the library's default.
SAMPLES, TREES = 200, 100

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
QUANTILE_FIELDS = ("q01", "q05", "q25", "q50", "q75", "q95", "q99")
GRADIENT_FIELDS = (
    "run",
    "network",
    "epochs",
    "stage",
    "count",
    "zeros",
    "not_finite",
    "mean",
    "variance",
    *QUANTILE_FIELDS,
)
GRADIENT_COLUMNS = (
    Column("epochs", field("epochs"), right=True),
    Column("stage", field("stage"), right=True),
    Column("network", field("network")),
    Column("run", field("run"), right=True),
    Column("mean", lambda r: f"{r['mean']:.3g}", right=True),
    Column("variance", lambda r: f"{r['variance']:.3g}", right=True),
    Column("median", lambda r: "" if r["q50"] is None else f"{r['q50']:.3g}", right=True),
    Column("zero %", lambda r: f"{100 * r['zeros'] / r['count']:.2f}", right=True),
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
    ] = SAMPLES,
    trees: Annotated[int, typer.Option("--trees", min=1, help="Of each random forest.")] = TREES,
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
    records = draw_integration(
        open_at(db), data, figures, run, stage, samples, trees, seed, jobs, controls, library
    )
    emit(format_, SUMMARY_FIELDS, records, listing(COLUMNS, records))


def open_at(db: str) -> Database:
    """The results database, which may not be there yet."""
    from dia_repro.results.database import open_database

    return open_database(db, create=False)


def draw_integration(
    database: Database,
    data: Path,
    figures: Path,
    run: int | None = None,
    stage: int | None = None,
    samples: int = SAMPLES,
    trees: int = TREES,
    seed: int = 0,
    jobs: int | None = None,
    controls: bool = True,
    library: bool = False,
) -> list[dict[str, Any]]:
    """Write Figure 5's files; gives a record for each heatmap."""
    analyst = _analyst(database, data, run, jobs)
    from dia_repro.analysis.gini import Settings
    from dia_repro.analysis.statements import of_integration
    from dia_repro.analysis.states import Source

    stages = analyst.stages(stage)
    found: list[Integration] = []
    try:
        with _progress() as watch:
            for source in list(Source) if controls else [Source.TRAINED]:
                for one in stages:
                    settings = Settings(one, source, samples, trees, seed, library)
                    watching = watch(f"stage {one}, {STATES[source]}")
                    found.append(analyst.integration(settings, watching))
    except KeyboardInterrupt:
        notice("Interrupted: what is done is kept, and the same command goes on from there.")
        raise
    _write(found, analyst.run, figures)
    _say(of_integration(found))
    return [_summary(one) for one in found]


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
    records, ends = draw_gradients(open_at(db), figures, run or [])
    emit(format_, GRADIENT_FIELDS, records, listing(GRADIENT_COLUMNS, ends))


def draw_gradients(
    database: Database, figures: Path, runs: Sequence[int] = ()
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Write Figure 6's files; gives all records, and those of the first and the last moment."""
    from dia_repro.analysis.gradients import recorded_runs
    from dia_repro.analysis.statements import of_gradients

    found = recorded_runs(database, runs)
    records = [record for one in found for record in _gradient_records(one)]
    moments = {one.run.summary.id: one.moments for one in found}
    ends = [record for record in records if record["epochs"] in moments[record["run"]]]
    ends.sort(key=lambda record: (record["epochs"], record["stage"]))
    _write_gradients(found, records, figures)
    _say(of_gradients(found))
    return records, ends


def _say(statements: Sequence[Statement]) -> None:
    for statement in statements:
        notice(f"The paper: {statement}.")


def _gradient_records(one: RecordedRun) -> Iterator[dict[str, Any]]:
    for epochs, stages in one.records.items():
        for stage, record in enumerate(stages, start=1):
            spread = zip(QUANTILE_FIELDS, record["quantiles"] or [None] * 7, strict=True)
            yield {
                "run": one.run.summary.id,
                "network": one.label,
                "epochs": epochs,
                "stage": stage,
                **{name: record[name] for name in ("count", "zeros", "not_finite")},
                **{name: record[name] for name in ("mean", "variance")},
                **dict(spread),
            }


def _write_gradients(
    found: Sequence[RecordedRun], records: list[dict[str, Any]], figures: Path
) -> None:
    from dia_repro.artifacts.figure6 import FIGURE6
    from dia_repro.experiments.describe import describe_data
    from dia_repro.rendering.files import write_bytes, write_text
    from dia_repro.rendering.heatmaps import to_bytes
    from dia_repro.rendering.histograms import draw_distributions

    moments = {
        "at initialisation": [one.records[one.moments[0]] for one in found],
        f"after {found[0].moments[1]} epochs": [one.records[one.moments[1]] for one in found],
    }
    labels = [one.label for one in found]
    rows = {
        moment: [
            [_curve(label, of_run[stage]) for label, of_run in zip(labels, of_runs, strict=True)]
            for stage in range(min(map(len, of_runs)))
        ]
        for moment, of_runs in moments.items()
    }
    spec = found[0].spec
    papers = spec.data.dataset == FIGURE6.entries[0].dataset
    title = (
        f"Figure 6. Gradients without skip connections: ResNet56 on {describe_data(spec.data)}, "
        f"{spec.recipe.epochs} epochs{'' if papers else ' (not the paper’s data)'}"
    )
    caption = (
        "Absolute value of the gradient of the loss at every element of a stage's output tensor, "
        "for the first batch of an epoch before it moves the weights; dotted: means. Runs "
        + ", ".join(f"{one.run.summary.id} ({one.label})" for one in found)
        + f", {spec.precision}."
    )
    figure = draw_distributions(rows, title, caption)
    write_text(figures / "figure6.csv", to_csv(GRADIENT_FIELDS, records))
    for kind in ("pdf", "png"):
        write_bytes(figures / f"figure6.{kind}", to_bytes(figure, kind))
    notice(f"Written: {figures / 'figure6'}.{{pdf,png,csv}}")


def _curve(label: str, record: dict[str, Any]) -> Curve:
    from dia_repro.rendering.histograms import Curve
    from dia_repro.training.gradients import BINS_PER_DECADE, LOWEST

    return Curve(
        label, record["histogram"], LOWEST, BINS_PER_DECADE, record["count"], record["mean"]
    )


def _analyst(database: Database, data: Path, run: int | None, jobs: int | None) -> Analyst:
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
    """A bar for each part, with the time left; a line for each where stderr is no terminal."""
    from rich.progress import Progress

    live = stderr().is_terminal
    announced: set[str] = set()
    with Progress(console=stderr(), transient=True, disable=not live) as bars:

        def watch(label: str) -> Callable[[int, int], None]:
            task = bars.add_task(label, total=None)

            def on_progress(done: int, total: int) -> None:
                bars.update(task, completed=done, total=total)
                if not live and label not in announced and done < total:
                    announced.add(label)
                    notice(f"Growing forests: {label}")

            return on_progress

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
