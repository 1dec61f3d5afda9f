"""How an artifact's networks learned, epoch by epoch: what its learning curves are drawn from."""

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
Points = NDArray[np.float64]  # (N, 2): epochs trained, figure
# The reason that training gives for a run that diverged.
AT_STEP = re.compile(r"at step (\d+) of epoch (\d+)")


@dataclass(frozen=True)
class Divergence:
    """Epoch and step at which a run diverged.

    Attributes:
        moment: in epochs; where the step is not known, the middle of the epoch, and where it is
            not known how many steps an epoch has, its beginning.
        epoch: counted from 1.
        step: of that epoch, counted from 1; None where the run does not say.
    """

    moment: float
    epoch: int
    step: int | None


@dataclass(frozen=True)
class SeedLine:
    """One run. `points` are of the epochs whose figure is finite."""

    seed: int
    state: State
    points: Points
    divergence: Divergence | None


@dataclass(frozen=True)
class NetworkLines:
    """The runs of one network in a panel.

    Attributes:
        names: for people; several where the columns of a table are one experiment.
        columns: the same as the paper's columns.
        mean: over the runs that finished, whose number is `finished`.
    """

    names: tuple[str, ...]
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

    @property
    def seen(self) -> bool:
        """Return whether there is something to draw."""
        return any(len(line.points) or line.divergence for line in self.lines)


@dataclass(frozen=True)
class LearningPanel:
    """A row of the table, or several whose networks are the same experiments."""

    rows: tuple[str, ...]
    epochs: int
    networks: tuple[NetworkLines, ...]

    @property
    def seen(self) -> bool:
        """Return whether there is something to draw."""
        return any(one.seen for one in self.networks)


@dataclass(frozen=True)
class Learning:
    """Learning curves of an artifact."""

    value: TableValue
    measure: Measure
    panels: tuple[LearningPanel, ...]

    @property
    def empty(self) -> bool:
        """Return whether there is nothing to draw at all."""
        return not any(panel.seen for panel in self.panels)


def learning(findings: Findings, measure: Measure) -> Learning:
    """Return the curves of every run behind a table, in any state, a panel for each of its rows."""
    value = findings.value
    by_row: dict[str, list[Experiment]] = {row: [] for row in value.artifact.paper.rows}
    for one in findings.experiments.values():
        if one.entry.shown:
            by_row[one.entry.row].append(one)
    alike: dict[tuple[Spec, ...], list[str]] = {}
    for row, experiments in by_row.items():
        alike.setdefault(tuple(dict.fromkeys(one.spec for one in experiments)), []).append(row)
    panels = []
    for specs, rows in alike.items():
        networks = tuple(
            _network(findings, [one for one in by_row[rows[0]] if one.spec == spec], measure)
            for spec in specs
        )
        longest = max((spec.recipe.epochs for spec in specs), default=1)
        panels.append(LearningPanel(tuple(rows), longest, networks))
    return Learning(value, measure, tuple(panels))


def _network(
    findings: Findings, experiments: Sequence[Experiment], measure: Measure
) -> NetworkLines:
    """Return the lines of cells that are one experiment."""
    first, headings = experiments[0], findings.value.artifact.headings
    lines = [_line(behind, first.spec, measure) for behind in first.runs]
    finished = [line.points for line in lines if line.state is State.FINISHED]
    columns = tuple(one.entry.column for one in experiments)
    return NetworkLines(
        names=tuple(headings.get(column, column) for column in columns),
        columns=columns,
        row=first.entry.row,
        dataset=first.spec.data.dataset,
        lines=tuple(sorted(lines, key=lambda line: line.seed)),
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
    if told is None:
        return Divergence(run.epochs + 0.5, run.epochs + 1, None)
    step, epoch = map(int, told.groups())
    return Divergence(epoch - 1 + _share_of_epoch(step, spec), epoch, step)


def _share_of_epoch(step: int, spec: Spec) -> float:
    """Return how much of an epoch a step is; 0 where the data's size is not known."""
    choice = known_sources().get(spec.data.dataset)
    if choice is None or choice.training_images is None:
        return 0.0
    return min(1.0, step / math.ceil(choice.training_images / spec.recipe.batch_size))


def mean(lines: Sequence[Points]) -> Points:
    """Return the mean of lines over the epochs that all of them have: over fewer it would jump."""
    if not lines:
        return np.empty((0, 2))
    common = reduce(np.intersect1d, (points[:, 0] for points in lines))
    figures = [points[np.isin(points[:, 0], common), 1] for points in lines]
    return np.column_stack([common, np.mean(figures, axis=0)])
