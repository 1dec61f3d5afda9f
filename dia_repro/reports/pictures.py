"""Figures 5 and 6 and their files; imported when they are drawn, since it loads torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from itertools import product
from pathlib import Path

from dia_repro.analysis.gini import Integration
from dia_repro.analysis.gradients import RecordedRun, recorded_runs
from dia_repro.analysis.stored import Analyst, choose_run
from dia_repro.artifacts import TableArtifact
from dia_repro.claims.readings import gradient_facts, integration_facts
from dia_repro.execution.dialogue import Dialogue, OnProgress
from dia_repro.execution.machine import find_machine
from dia_repro.execution.maintenance import checkpoint_store, folder_of
from dia_repro.execution.options import Device
from dia_repro.experiments.names import DataLocation
from dia_repro.experiments.spec import Spec
from dia_repro.interrupts import Interrupted
from dia_repro.rendering import heatmaps, histograms
from dia_repro.rendering.images import to_files
from dia_repro.rendering.marks import OF_ANOTHER, mark_of, picture_shows_another
from dia_repro.rendering.records import to_csv
from dia_repro.reports.drawing import write_picture
from dia_repro.reports.options import Forests
from dia_repro.reports.replacing import alone_in
from dia_repro.results.database import Database
from dia_repro.results.parts import Settings, Source
from dia_repro.training.provenance import environment_of


def make_analyst(
    database: Database,
    data: Path,
    checkpoints: str | None,
    command: str,
    run: int | None = None,
    jobs: int | None = None,
) -> Analyst:
    """Return the analyst of a run, by default of the best run of Figure 5's network.

    Args:
        command: what is recorded as the command of the analysis.

    Raises:
        NoRunError, NotAnalysableError, UnknownRunError: there is none, or it cannot be analysed.
    """
    chosen = choose_run(database, run)
    machine = find_machine(Device.CPU)
    return Analyst(
        database,
        chosen,
        DataLocation(data),
        folder_of(checkpoint_store(database, checkpoints), chosen.summary),
        jobs or machine.cores,
        json.dumps(environment_of(machine.device, command)),
    )


def draw_integration(
    analyst: Analyst,
    figures: Path,
    forests: Forests,
    stage: int | None = None,
    *,
    dialogue: Dialogue,
    controls: bool = True,
    guarded: bool = True,
    judged_by: str = "",
) -> list[Integration]:
    """Write Figure 5's files; what was computed before is taken from the database.

    Args:
        guarded: whether it is looked here what the files would replace.
        judged_by: the command that judges the claims on the same experiments, if there is one.

    Raises:
        ForeignFileError: they would replace files that dia-repro has not written.
        BusyFolderError: a report is being written to the folder.
    """
    spec = Spec.from_stored(analyst.run.spec_json)
    mark = mark_of([spec], analyst.run.summary.origin)
    if guarded:
        _say_replaced(figures / "figure5", mark, dialogue)
    stages = analyst.stages(stage)
    sources = list(Source) if controls else [Source.TRAINED]
    found = []
    try:
        for source, number in product(sources, stages):
            with _announced(dialogue, f"stage {number}, {heatmaps.STATES[source]}") as on_progress:
                settings = Settings(number, source, **asdict(forests))
                found.append(analyst.integration(settings, on_progress))
    except (Interrupted, KeyboardInterrupt):
        dialogue.notice(
            "Interrupted: what is done is kept, and the same command goes on from there."
        )
        raise
    figure = heatmaps.draw_integration(found, analyst.run)
    csv = to_csv(heatmaps.CELL_FIELDS, list(heatmaps.integration_records(found)))
    with _guarded(figures / "figure5", mark) if guarded else nullcontext():
        write_picture(figures / "figure5", {**to_files(figure), "csv": csv.encode()}, dialogue)
    _say_facts(dialogue, integration_facts(found), judged_by)
    return found


@contextmanager
def _announced(dialogue: Dialogue, label: str) -> Iterator[OnProgress]:
    """Show a bar while forests grow; a line where there is none."""
    announced = dialogue.watch_shows
    with dialogue.watch(label) as progress:

        def on_progress(done: int, total: int) -> None:
            nonlocal announced
            progress(done, total)
            if not announced and done < total:
                announced = True
                dialogue.notice(f"Growing forests: {label}")

        yield on_progress


def draw_gradients(
    database: Database,
    figures: Path,
    runs: Sequence[int],
    artifact: TableArtifact,
    *,
    dialogue: Dialogue,
    apart: bool = False,
    guarded: bool = True,
    judged_by: str = "",
) -> list[RecordedRun]:
    """Write the files of Figure 6, or of its control, from what runs have recorded.

    Args:
        runs: their numbers; by default all finished ones of the artifact's networks.
        apart: whether each run has a curve.
        guarded, judged_by: as in `draw_integration`.

    Raises:
        ForeignFileError: they would replace files that dia-repro has not written.
        BusyFolderError: a report is being written to the folder.
    """
    found = recorded_runs(database, runs, artifact)
    mark = mark_of((run.spec for run in found), found[0].run.summary.origin)
    if guarded:
        _say_replaced(figures / artifact.name, mark, dialogue)
    figure = histograms.draw_gradients(found, artifact, apart=apart)
    csv = to_csv(histograms.GRADIENT_FIELDS, list(histograms.gradient_records(found)))
    with _guarded(figures / artifact.name, mark) if guarded else nullcontext():
        write_picture(figures / artifact.name, {**to_files(figure), "csv": csv.encode()}, dialogue)
    _say_facts(dialogue, gradient_facts(found), judged_by)
    return found


@contextmanager
def _guarded(picture: Path, mark: str) -> Iterator[None]:
    """Keep reports out of a picture's folder, and look again at what is there: time has passed."""
    with alone_in([picture.parent]):
        picture_shows_another(picture, mark)
        yield


def _say_replaced(picture: Path, mark: str, dialogue: Dialogue) -> None:
    if picture_shows_another(picture, mark):
        dialogue.notice(f"To be replaced, {OF_ANOTHER}: {picture}.svg")


def _say_facts(dialogue: Dialogue, facts: Sequence[str], judged_by: str) -> None:
    """Say what a figure's runs show. Only `claims`, which takes all runs, judges it."""
    for fact in facts:
        dialogue.notice(f"Here {fact}.")
    if facts and judged_by:
        dialogue.notice(f"What all runs say of the paper's claims: {judged_by}")
