"""Origin of cells: their values, the runs behind them and the experiments of these runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dia_repro.artifacts.lookup import find_metric
from dia_repro.artifacts.metrics import METRICS
from dia_repro.artifacts.table import Entry, Position, TableArtifact, TableValue
from dia_repro.experiments.names import Precision
from dia_repro.experiments.protocols import GPU_PRECISION, Request
from dia_repro.experiments.seeds import Seeds
from dia_repro.experiments.spec import Spec
from dia_repro.results.database import Database, one_state
from dia_repro.results.histories import History, histories
from dia_repro.results.queries import RunSummary, runs_of
from dia_repro.results.schema import DONE, State


@dataclass(frozen=True)
class RunBehind:
    """A run of a cell's experiments, with its history."""

    run: RunSummary
    history: History

    def epoch_for(self, metric: str) -> int | None:
        """Return the epoch whose accuracy a metric takes, from 1; None where it takes none."""
        epoch = METRICS[metric].epoch
        return epoch(self.history) if epoch else None

    def value_for(self, metric: str) -> float | None:
        """Return the run's value of a metric: an accuracy in %, or #P in millions."""
        value = METRICS[metric].value(self.run)
        return None if value is None else value / METRICS[metric].scale


@dataclass(frozen=True)
class Experiment:
    """A network of the artifact as it is trained, with its runs.

    Attributes:
        precision_said: whether a command has to name the precision to get this very spec on
            any machine; else it is the default with and without a GPU.
        runs: runs of the seeds that are shown, by seed.
    """

    entry: Entry
    spec: Spec
    precision_said: bool
    runs: tuple[RunBehind, ...]

    @property
    def words(self) -> str:
        """Return the words with which `--only` chooses this network alone."""
        return " ".join(self.entry.label.replace(",", " ").split())

    @property
    def best_run(self) -> RunSummary | None:
        """Return the finished run with the highest accuracy, the first of several."""
        finished = [behind.run for behind in self.runs if behind.run.state is State.FINISHED]
        return max(finished, key=lambda run: (run.best_top1 or 0.0, -run.id), default=None)


@dataclass(frozen=True)
class Findings:
    """Everything that the database has on an artifact.

    Attributes:
        experiments: experiments by position, in the artifact's order; those that it only compares
            with are included.
    """

    value: TableValue
    experiments: dict[Position, Experiment]

    @property
    def behind(self) -> tuple[RunBehind, ...]:
        """Return all runs with their histories, each once."""
        runs = [run for experiment in self.experiments.values() for run in experiment.runs]
        return tuple({behind.run.id: behind for behind in runs}.values())

    @property
    def runs(self) -> tuple[RunSummary, ...]:
        """Return all runs, each once."""
        return tuple(behind.run for behind in self.behind)

    @property
    def needed(self) -> int:
        """Return the number of runs of a complete artifact."""
        specs = {experiment.spec for experiment in self.experiments.values()}
        return len(specs) * len(self.value.seeds)

    @property
    def done(self) -> int:
        """Return the number of runs with a result: they finished, or diverged."""
        return sum(run.state in DONE for run in self.runs)

    @property
    def diverged(self) -> int:
        """Return the number of runs that diverged."""
        return sum(run.state is State.DIVERGED for run in self.runs)

    @property
    def state(self) -> str:
        """Return whether it is complete, partial or missing."""
        if not self.done:
            return "missing"
        return "complete" if self.done >= self.needed else "partial"


@one_state
def gather(database: Database, value: TableValue) -> Findings:
    """Return all that the database has on an artifact, under the request that its value answers."""
    found = runs_of(database, (spec.spec_id for spec in value.specs.values()))
    known = histories(database, [run.id for runs in found.values() for run in runs])
    experiments = {}
    for entry in value.artifact.entries:
        spec = value.specs[entry.position]
        by_seed = sorted(found[spec.spec_id], key=lambda run: run.seed)
        behind = (RunBehind(run, known[run.id]) for run in by_seed if value.seeds.shows(run.seed))
        said = _precision_said(entry, value.request)
        experiments[entry.position] = Experiment(entry, spec, said, tuple(behind))
    return Findings(value, experiments)


@one_state
def explain(
    artifact: TableArtifact,
    database: Database,
    request: Request,
    entry: Entry,
    *,
    metric: str | None = None,
    seeds: Seeds | None = None,
) -> Findings:
    """Return where the values of a network in an artifact come from, as a table shows them.

    The cells are only the network's. Its experiment is the first, and the second is the one that
    changes are counted from, if a cell is a change.

    Args:
        entry: the network, one that the artifact shows.
        metric: one of its values, by name or part of it; None for all.
        seeds: as of `TableArtifact.compute`.

    Raises:
        UnknownCellError: no value of the network is called `metric`.
    """
    value = artifact.compute(database, request, seeds)
    cells = [cell for cell in value.cells if (cell.row, cell.column) == entry.position]
    if metric is not None:
        chosen = find_metric(artifact, [cell.metric for cell in cells], metric)
        cells = [cell for cell in cells if cell.metric == chosen]
    experiments = gather(database, value).experiments
    positions = [entry.position]
    if entry.compared_with and any(METRICS[cell.metric].sign for cell in cells):
        positions.append(entry.compared_with)
    return Findings(
        replace(value, cells=tuple(cells)), {name: experiments[name] for name in positions}
    )


def _precision_said(entry: Entry, request: Request) -> bool:
    """Return whether a machine with or without a GPU would train another spec by default."""
    defaults = (GPU_PRECISION[request.protocol], Precision.FP32)
    silent = (replace(request, precision=usual, precision_asked=False) for usual in defaults)
    return any(entry.spec(other) != entry.spec(request) for other in silent)
