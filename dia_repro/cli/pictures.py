"""Pictures and their files: the paper's figures, learning curves, accuracy against parameters."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dia_repro.cli.drawing import write_picture
from dia_repro.cli.environment import environment_of
from dia_repro.cli.options import Device
from dia_repro.cli.output import notice, stderr, watch
from dia_repro.execution.options import option
from dia_repro.interrupts import Interrupted
from dia_repro.rendering.records import to_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dia_repro.analysis.gini import Integration
    from dia_repro.analysis.gradients import RecordedRun
    from dia_repro.analysis.stored import Analyst
    from dia_repro.artifacts import TableArtifact
    from dia_repro.artifacts.explanation import Findings
    from dia_repro.cli.drawing import Pictures
    from dia_repro.results.database import Database


@dataclass(frozen=True)
class Forests:
    """Settings of Figure 5's random forests.

    Heatmaps of two seeds agree: Spearman's rank correlation over the cells of a stage is 0.957 or
    more (DIANet164, demo protocol; with 60 trees 0.942). 100 trees are scikit-learn's default.
    """

    samples: int = option("Test images; all where there are fewer.", 200, min=1)
    trees: int = option("Of each random forest.", 100, min=1)
    seed: int = option("Of the choice of images and of the forests.", 0, min=0)
    library: bool = option(
        "Have scikit-learn grow the trees: the same estimator, slower.", default=False
    )


def draw_curves(pictures: Pictures, figures: Path, findings: Findings) -> None:
    """Begin to draw the learning curves that an artifact asks for, if it has any runs."""
    from dia_repro.artifacts import Drawing
    from dia_repro.artifacts.learning import Measure, learning
    from dia_repro.rendering.learning import draw_learning

    curves: dict[Drawing, tuple[str, Measure]] = {
        Drawing.ACCURACY: ("curves", "test_top1"),
        Drawing.LOSS: ("loss", "train_loss"),
    }
    artifact = findings.value.artifact
    for name, measure in (curves[kind] for kind in artifact.drawings if kind in curves):
        found = learning(findings, measure)
        if found.seen:
            pictures.draw(figures / f"{artifact.name}-{name}", draw_learning, found)


def draw_integration(
    database: Database,
    data: Path,
    figures: Path,
    checkpoints: str | None = None,
    run: int | None = None,
    stage: int | None = None,
    jobs: int | None = None,
    forests: Forests = Forests(),
    *,
    controls: bool = True,
) -> list[Integration]:
    """Write Figure 5's files; what was computed before is taken from the database."""
    from dia_repro.analysis.gini import Settings
    from dia_repro.analysis.states import Source
    from dia_repro.claims.readings import integration_facts
    from dia_repro.rendering import heatmaps

    analyst = _analyst(database, data, checkpoints, run, jobs)
    stages = analyst.stages(stage)
    wanted = [
        Settings(one, source, *astuple(forests))
        for source in (Source if controls else [Source.TRAINED])
        for one in stages
    ]
    found = []
    try:
        for settings in wanted:
            label = f"stage {settings.stage}, {heatmaps.STATES[settings.source]}"
            with _announced(label) as on_progress:
                found.append(analyst.integration(settings, on_progress))
    except (Interrupted, KeyboardInterrupt):
        notice("Interrupted: what is done is kept, and the same command goes on from there.")
        raise
    figure = heatmaps.draw_integration(found, analyst.run)
    records = list(heatmaps.integration_records(found))
    _write_figure(figures / "figure5", figure, to_csv(heatmaps.CELL_FIELDS, records))
    _say_facts("figure5", integration_facts(found))
    return found


def _analyst(
    database: Database, data: Path, checkpoints: str | None, run: int | None, jobs: int | None
) -> Analyst:
    from dia_repro.analysis.stored import Analyst, choose_run

    chosen = choose_run(database, run)
    from dia_repro.execution.machine import find_machine
    from dia_repro.execution.maintenance import checkpoint_store, folder_of
    from dia_repro.experiments.names import DataLocation

    machine = find_machine(Device.CPU)
    return Analyst(
        database,
        chosen,
        DataLocation(data),
        folder_of(checkpoint_store(database, checkpoints), chosen.summary),
        jobs or machine.cores,
        json.dumps(environment_of(machine.device)),
    )


@contextmanager
def _announced(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while forests grow; a line where stderr is no terminal."""
    announced = stderr().is_terminal
    with watch(label) as progress:

        def on_progress(done: int, total: int) -> None:
            nonlocal announced
            progress(done, total)
            if not announced and done < total:
                announced = True
                notice(f"Growing forests: {label}")

        yield on_progress


def draw_gradients(
    database: Database, figures: Path, runs: Sequence[int], artifact: TableArtifact
) -> list[RecordedRun]:
    """Write the files of Figure 6, or of its control, from what runs have recorded."""
    from dia_repro.analysis.gradients import recorded_runs
    from dia_repro.claims.readings import gradient_facts
    from dia_repro.rendering import histograms

    found = recorded_runs(database, runs, artifact)
    records = list(histograms.gradient_records(found))
    text = to_csv(histograms.GRADIENT_FIELDS, records)
    figure = histograms.draw_gradients(found, artifact)
    _write_figure(figures / artifact.name, figure, text)
    _say_facts(artifact.name, gradient_facts(found))
    return found


def _say_facts(artifact: str, facts: Sequence[str]) -> None:
    """Say what the figure's runs show. Only `claims`, which takes all runs, judges it."""
    for fact in facts:
        notice(f"Here {fact}.")
    if facts:
        notice(f"What all runs say of the paper's claims: dia-repro claims {artifact}")


def _write_figure(path: Path, figure: Figure, csv: str) -> None:
    from dia_repro.rendering.images import to_files

    write_picture(path, {**to_files(figure), "csv": csv.encode()})
