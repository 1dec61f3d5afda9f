"""Course of an artifact's networks, epoch by epoch: the data of its learning curves."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dia_repro.artifacts.explanation import Experiment, Findings, RunBehind
from dia_repro.artifacts.table import TableValue
from dia_repro.data import known_sources
from dia_repro.experiments.spec import Spec
from dia_repro.results.queries import RunSummary
from dia_repro.results.schema import State

Measure = Literal["test_top1", "train_loss"]
Points = NDArray[np.float64]  # (N, 2): epochs trained, value
# The reason that training gives for a run that diverged.
AT_STEP = re.compile(r"at step (\d{1,9}) of epoch (\d{1,9})(?!\d)")


@dataclass(frozen=True)
class Divergence:
    """Epoch and step at which a run diverged.

    Attributes:
        moment: time in epochs; where the step is not known, the middle of the epoch, and where the
            number of steps in an epoch is not known, its beginning.
        epoch: counted from 1.
        step: step of that epoch, counted from 1; None where the run does not say.
    """

    moment: float
    epoch: int
    step: int | None


@dataclass(frozen=True)
class SeedLine:
    """A run. `points` are of the epochs whose value is finite."""

    seed: int
    state: State
    points: Points
    divergence: Divergence | None


@dataclass(frozen=True)
class NetworkLines:
    """The runs of a network in a panel.

    Attributes:
        columns: columns of the table; several where they are the same experiment.
        lines: runs by seed.
        mean: mean over the runs that finished.
        finished: number of runs that finished.
    """

    columns: tuple[str, ...]
    row: str
    dataset: str
    lines: tuple[SeedLine, ...]
    mean: Points
    finished: int

    @property
    def divergences(self) -> tuple[Divergence, ...]:
        """Return the divergences of the runs that diverged."""
        return tuple(line.divergence for line in self.lines if line.divergence)


@dataclass(frozen=True)
class LearningPanel:
    """A row of the table, or several whose networks are the same experiments."""

    rows: tuple[str, ...]
    epochs: int
    networks: tuple[NetworkLines, ...]

    @property
    def data(self) -> set[str]:
        """Return the data sets of its networks."""
        return {network.dataset for network in self.networks}

    @property
    def seen(self) -> bool:
        """Return whether there is something to draw."""
        lines = [line for network in self.networks for line in network.lines]
        return any(len(line.points) or line.divergence for line in lines)


@dataclass(frozen=True)
class Learning:
    """Learning curves of an artifact."""

    value: TableValue
    measure: Measure
    panels: tuple[LearningPanel, ...]

    @property
    def seen(self) -> list[LearningPanel]:
        """Return the panels with something to draw."""
        return [panel for panel in self.panels if panel.seen]


def learning(findings: Findings, measure: Measure) -> Learning:
    """Return the curves of every run behind a table, in any state, a panel for each of its rows."""
    value = findings.value
    by_row: dict[str, dict[Spec, list[Experiment]]] = {row: {} for row in value.artifact.paper.rows}
    for experiment in findings.experiments.values():
        if experiment.entry.shown:
            by_row[experiment.entry.row].setdefault(experiment.spec, []).append(experiment)
    alike: dict[tuple[Spec, ...], list[str]] = {}
    for row, by_spec in by_row.items():
        alike.setdefault(tuple(by_spec), []).append(row)
    panels = [
        LearningPanel(
            rows=tuple(rows),
            epochs=max((spec.recipe.epochs for spec in specs), default=1),
            networks=tuple(_network(by_row[rows[0]][spec], measure) for spec in specs),
        )
        for specs, rows in alike.items()
    ]
    return Learning(value, measure, tuple(panels))


def _network(experiments: Sequence[Experiment], measure: Measure) -> NetworkLines:
    """Return the lines of cells that are the same experiment."""
    first = experiments[0]
    lines = tuple(_line(behind, first.spec, measure) for behind in first.runs)
    finished = [line.points for line in lines if line.state is State.FINISHED]
    return NetworkLines(
        columns=tuple(experiment.entry.column for experiment in experiments),
        row=first.entry.row,
        dataset=first.spec.data.dataset,
        lines=lines,
        mean=mean(finished),
        finished=len(finished),
    )


def _line(behind: RunBehind, spec: Spec, measure: Measure) -> SeedLine:
    run, history = behind.run, behind.history
    points = np.column_stack([history.epochs, history.measures[measure]]).astype(np.float64)
    points = points[np.isfinite(points[:, 1])]
    return SeedLine(run.seed, run.state, points, _divergence(run, spec))


def _divergence(run: RunSummary, spec: Spec) -> Divergence | None:
    if run.state is not State.DIVERGED:
        return None
    told = AT_STEP.search(run.reason or "")
    step, epoch = map(int, told.groups()) if told else (0, 0)
    if epoch != run.epochs + 1:  # it is not said, or not as dia-repro says it
        return Divergence(run.epochs + 0.5, run.epochs + 1, None)
    choice = known_sources().get(spec.data.dataset)
    share = 0.0  # of the epoch, where the data's size is not known
    if choice is not None and choice.training_images is not None:
        images = choice.training_images - spec.data.held_out(choice.training_images)
        share = min(1.0, step / math.ceil(images / spec.recipe.batch_size))
    return Divergence(epoch - 1 + share, epoch, step)


def mean(lines: Sequence[Points]) -> Points:
    """Return the mean of lines over the epochs that all of them have: over fewer it would jump."""
    if not lines:
        return np.empty((0, 2))
    common = reduce(np.intersect1d, (points[:, 0] for points in lines))
    values = [points[np.isin(points[:, 0], common), 1] for points in lines]
    return np.column_stack([common, np.mean(values, axis=0)])
