"""Where a cell comes from: its figures, the runs behind them and the experiments they are of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from dia_repro.artifacts.contributions import Contribution, contributions
from dia_repro.artifacts.lookup import find_metric
from dia_repro.artifacts.table import Cell, Entry, TableArtifact
from dia_repro.experiments.names import Precision
from dia_repro.experiments.protocols import GPU_PRECISION, Request
from dia_repro.experiments.spec import Spec
from dia_repro.results.database import Database, one_state
from dia_repro.results.histories import History, histories
from dia_repro.results.queries import RunSummary, runs_of
from dia_repro.results.schema import DONE

HOW = {
    "params": "Parameters in millions, counted on the network that was trained",
    "params_delta": "Parameters in millions, minus those of {other}",
    "params_drop": "Parameters of {other} in millions, minus this network's",
    "top1": "The highest test accuracy over the epochs of a finished run, averaged over seeds",
    "top1_last": "The test accuracy after the last epoch of a finished run, averaged over seeds",
    "top1_drop": "The highest test accuracy over epochs of {other}, minus this network's with the "
    "same seed, averaged over seeds",
}
# Metrics that say how the network differs from another one.
CHANGES = ("params_delta", "params_drop", "top1_drop")
BEST, LAST = ("top1", "top1_drop"), ("top1_last",)


@dataclass(frozen=True)
class RunBehind:
    """A run that a cell looks at."""

    run: RunSummary
    history: History

    def epoch_for(self, metric: str) -> int | None:
        """The epoch whose accuracy a metric takes, counted from 1; None where it takes none."""
        if metric in BEST:
            return self.history.best_epoch
        return self.history.last_epoch if metric in LAST else None

    def value_for(self, metric: str) -> float | None:
        """What the run says for a metric: an accuracy in %, or #P in millions."""
        if metric in BEST:
            return self.run.best_top1
        if metric in LAST:
            return self.run.last_top1
        counted = self.run.parameters is not None and self.run.state in DONE
        return (self.run.parameters or 0) / 1e6 if counted else None


@dataclass(frozen=True)
class Experiment:
    """A network of the artifact as it is trained, with its runs.

    Attributes:
        precision_said: whether a command has to name the precision to get this very spec on
            any machine; else it is the default with and without a GPU.
        runs: all there are, by seed.
    """

    entry: Entry
    spec: Spec
    precision_said: bool
    runs: tuple[RunBehind, ...]

    @property
    def words(self) -> str:
        """What `--only` needs to choose this network alone among the artifact's."""
        return " ".join(self.entry.label.replace(",", " ").split())


@dataclass(frozen=True)
class ExplainedFigure:
    """A cell and how it is computed.

    Attributes:
        how: a sentence.
        contributions: the values behind its mean.
    """

    cell: Cell
    how: str
    contributions: tuple[Contribution, ...]

    @property
    def is_change(self) -> bool:
        """Whether it says how the network differs from another one."""
        return self.cell.metric in CHANGES

    @property
    def used(self) -> frozenset[int]:
        """Numbers of the runs behind the mean, those it is compared with included."""
        runs = [run for one in self.contributions for run in (*one.runs, *one.compared)]
        return frozenset(run.id for run in runs)


@dataclass(frozen=True)
class Explanation:
    """Where the figures in one cell of an artifact come from.

    Attributes:
        label: of the artifact, e.g. "Table 5".
        seeds: how many a cell should have.
        own: the experiment in that cell.
        compared: the one that changes are counted from; None where no figure is a change.
    """

    artifact: str
    label: str
    request: Request
    seeds: int
    figures: tuple[ExplainedFigure, ...]
    own: Experiment
    compared: Experiment | None

    @property
    def experiments(self) -> tuple[Experiment, ...]:
        """Those whose runs matter."""
        return (self.own,) if self.compared is None else (self.own, self.compared)


@one_state
def explain(
    artifact: TableArtifact,
    database: Database,
    request: Request,
    entry: Entry,
    *,
    metric: str | None = None,
    seeds: int | None = None,
) -> Explanation:
    """Where the figures of a network in an artifact come from, the very ones that a table shows.

    Args:
        entry: the network, one that the artifact shows.
        metric: one of its figures, by name or part of it; None for all.
        seeds: how many seeds a cell should have; by default as many as any cell has.

    Raises:
        UnknownCellError: no figure of the network is called `metric`.
    """
    value = artifact.compute(database, request, seeds)
    cells = [one for one in value.cells if (one.row, one.column) == (entry.row, entry.column)]
    if metric is not None:
        chosen = find_metric(artifact, [one.metric for one in cells], metric)
        cells = [one for one in cells if one.metric == chosen]
    experiment = _reader(database, request)
    own = experiment(entry)
    other = _other(artifact, entry) if any(one.metric in CHANGES for one in cells) else None
    compared = experiment(other) if other else None
    runs = [one.run for one in own.runs]
    against = [one.run for one in compared.runs] if compared else []
    return Explanation(
        artifact=artifact.name,
        label=value.label,
        request=request,
        seeds=value.seeds,
        figures=tuple(
            ExplainedFigure(
                one,
                _how(one, other),
                tuple(contributions(one.metric, runs, against)),
            )
            for one in cells
        ),
        own=own,
        compared=compared,
    )


def _other(artifact: TableArtifact, entry: Entry) -> Entry | None:
    cells = {(one.row, one.column): one for one in artifact.entries}
    return cells[entry.compared_with] if entry.compared_with else None


def _reader(database: Database, request: Request) -> Callable[[Entry], Experiment]:
    def experiment(entry: Entry) -> Experiment:
        spec = entry.spec(request)
        found = runs_of(database, [spec.spec_id])[spec.spec_id]
        known = histories(database, [run.id for run in found])
        return Experiment(entry, spec, precision_said(entry, request), runs_behind(found, known))

    return experiment


def runs_behind(found: Sequence[RunSummary], known: Mapping[int, History]) -> tuple[RunBehind, ...]:
    """Runs with their histories, by seed."""
    by_seed = sorted(found, key=lambda run: run.seed)
    return tuple(RunBehind(run, known[run.id]) for run in by_seed)


def precision_said(entry: Entry, request: Request) -> bool:
    """Whether a machine with or without a GPU would train something else if it is not named."""
    defaults = (GPU_PRECISION[request.protocol], Precision.FP32)
    silent = (replace(request, precision=one, precision_asked=False) for one in defaults)
    return any(entry.spec(one) != entry.spec(request) for one in silent)


def _how(cell: Cell, other: Entry | None) -> str:
    text = HOW[cell.metric].format(other=other.label if other else "")
    if not cell.diverged:
        return f"{text}."
    runs = "1 diverged run is" if cell.diverged == 1 else f"{cell.diverged} diverged runs are"
    return f"{text}; {runs} not in the mean."
