"""Figures 5 and 6 and their files; commands import it when they draw, since it loads torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import product
from pathlib import Path

from dia_repro.analysis.gini import Integration, Settings
from dia_repro.analysis.gradients import RecordedRun, recorded_runs
from dia_repro.analysis.states import Source
from dia_repro.analysis.stored import Analyst, choose_run
from dia_repro.artifacts import TableArtifact
from dia_repro.claims.readings import gradient_facts, integration_facts
from dia_repro.cli.drawing import write_picture
from dia_repro.cli.environment import environment_of
from dia_repro.cli.options import Device, Forests
from dia_repro.cli.output import notice, stderr, watch
from dia_repro.execution.machine import find_machine
from dia_repro.execution.maintenance import checkpoint_store, folder_of
from dia_repro.experiments.names import DataLocation
from dia_repro.interrupts import Interrupted
from dia_repro.rendering import heatmaps, histograms
from dia_repro.rendering.images import to_files
from dia_repro.rendering.records import to_csv
from dia_repro.results.database import Database


def make_analyst(
    database: Database,
    data: Path,
    checkpoints: str | None,
    run: int | None = None,
    jobs: int | None = None,
) -> Analyst:
    """Return the analyst of a run, by default of the best run of Figure 5's network.

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
        json.dumps(environment_of(machine.device)),
    )


def draw_integration(
    analyst: Analyst,
    figures: Path,
    forests: Forests,
    stage: int | None = None,
    *,
    controls: bool = True,
    judged_by: str = "",
) -> list[Integration]:
    """Write Figure 5's files; what was computed before is taken from the database.

    Args:
        judged_by: the command that judges the claims on the same experiments, if there is one.
    """
    stages = analyst.stages(stage)
    sources = list(Source) if controls else [Source.TRAINED]
    found = []
    try:
        for source, number in product(sources, stages):
            with _announced(f"stage {number}, {heatmaps.STATES[source]}") as on_progress:
                settings = Settings(number, source, **asdict(forests))
                found.append(analyst.integration(settings, on_progress))
    except (Interrupted, KeyboardInterrupt):
        notice("Interrupted: what is done is kept, and the same command goes on from there.")
        raise
    figure = heatmaps.draw_integration(found, analyst.run)
    csv = to_csv(heatmaps.CELL_FIELDS, list(heatmaps.integration_records(found)))
    write_picture(figures / "figure5", {**to_files(figure), "csv": csv.encode()})
    _say_facts(integration_facts(found), judged_by)
    return found


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
    database: Database,
    figures: Path,
    runs: Sequence[int],
    artifact: TableArtifact,
    *,
    apart: bool = False,
    judged_by: str = "",
) -> list[RecordedRun]:
    """Write the files of Figure 6, or of its control, from what runs have recorded.

    Args:
        runs: their numbers; by default all finished ones of the artifact's networks.
        apart: whether each run has a curve.
        judged_by: as in `draw_integration`.
    """
    found = recorded_runs(database, runs, artifact)
    figure = histograms.draw_gradients(found, artifact, apart=apart)
    csv = to_csv(histograms.GRADIENT_FIELDS, list(histograms.gradient_records(found)))
    write_picture(figures / artifact.name, {**to_files(figure), "csv": csv.encode()})
    _say_facts(gradient_facts(found), judged_by)
    return found


def _say_facts(facts: Sequence[str], judged_by: str) -> None:
    """Say what a figure's runs show. Only `claims`, which takes all runs, judges it."""
    for fact in facts:
        notice(f"Here {fact}.")
    if facts and judged_by:
        notice(f"What all runs say of the paper's claims: {judged_by}")
