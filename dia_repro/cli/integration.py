"""Figure 5, from the analysis to its files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dia_repro.cli import options
from dia_repro.cli.circumstances import circumstances_of
from dia_repro.cli.output import notice, say_statements, stderr
from dia_repro.interrupts import Interrupted
from dia_repro.rendering.listing import Column, field
from dia_repro.rendering.records import to_csv

if TYPE_CHECKING:
    from collections.abc import Callable

    from dia_repro.analysis.gini import Integration
    from dia_repro.analysis.stored import Analyst
    from dia_repro.experiments.spec import Spec
    from dia_repro.results.database import Database
    from dia_repro.results.queries import RunDetail

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
STATES = {
    "trained": "trained",
    "initial": "before training",
    "shuffled": "shuffled across images",
}


def draw_integration(
    database: Database,
    data: Path,
    figures: Path,
    checkpoints: str | None = None,
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
    analyst = _analyst(database, data, checkpoints, run, jobs)
    from dia_repro.analysis.gini import Settings
    from dia_repro.analysis.states import Source
    from dia_repro.claims.readings import of_integration

    stages = analyst.stages(stage)
    found: list[Integration] = []
    try:
        with _progress() as watch:
            for source in list(Source) if controls else [Source.TRAINED]:
                for one in stages:
                    settings = Settings(one, source, samples, trees, seed, library)
                    watching = watch(f"stage {one}, {STATES[source]}")
                    found.append(analyst.integration(settings, watching))
    except (Interrupted, KeyboardInterrupt):
        notice("Interrupted: what is done is kept, and the same command goes on from there.")
        raise
    _write(found, analyst.run, figures)
    say_statements(of_integration(found))
    return [_summary(one) for one in found]


def _analyst(
    database: Database, data: Path, checkpoints: str | None, run: int | None, jobs: int | None
) -> Analyst:
    from dia_repro.analysis.stored import Analyst, choose_run

    chosen = choose_run(database, run)
    from dia_repro.execution.machine import find_machine
    from dia_repro.execution.planning import checkpoint_store
    from dia_repro.execution.upkeep import folder_of
    from dia_repro.experiments.names import DataLocation

    machine = find_machine(options.Device.CPU)
    return Analyst(
        database,
        chosen,
        DataLocation(data),
        folder_of(checkpoint_store(database, checkpoints), chosen.summary),
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
    from dia_repro.rendering.heatmaps import Panel, draw_heatmaps
    from dia_repro.rendering.images import KINDS, to_bytes

    rows: dict[str, list[Panel]] = {}
    for one in found:
        states = STATES[one.settings.source]
        title = f"stage {one.settings.stage}, {states}"
        rows.setdefault(states, []).append(Panel(title, one.matrix))
    spec = Spec.from_json(run.spec_json)
    figure = draw_heatmaps(list(rows.values()), _title(spec, run), _caption(found))
    write_text(figures / "figure5.csv", to_csv(CELL_FIELDS, list(_cells(found))))
    for kind in KINDS:
        write_bytes(figures / f"figure5.{kind}", to_bytes(figure, kind))
    notice(f"Written: {figures / 'figure5'}.{{{','.join(KINDS)},csv}}")


def _title(spec: Spec, run: RunDetail) -> str:
    from dia_repro.artifacts.figure5 import FIGURE5
    from dia_repro.experiments.describe import describe_data, describe_model

    papers = spec.data.dataset == FIGURE5.entries[0].dataset
    epochs = "1 epoch" if spec.recipe.epochs == 1 else f"{spec.recipe.epochs} epochs"
    return (
        f"Figure 5. Feature integration: {describe_model(spec.model)} on "
        f"{describe_data(spec.data)}, {epochs}, run {run.summary.id}"
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
