"""Where cells come from: their values, the runs behind them and the experiments of these runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dia_repro.artifacts.lookup import find_metric
from dia_repro.artifacts.metrics import METRICS, Contribution, contributions
from dia_repro.artifacts.table import Cell, Entry, TableArtifact, TableValue
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
        runs: those of the seeds that are shown, by seed.
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
        finished = [one.run for one in self.runs if one.run.state is State.FINISHED]
        return max(finished, key=lambda run: (run.best_top1 or 0.0, -run.id), default=None)


@dataclass(frozen=True)
class ExplainedValue:
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
        """Return whether the value is a difference from another network's."""
        return METRICS[self.cell.metric].sign != 0

    @property
    def used(self) -> frozenset[int]:
        """Return numbers of the runs behind the mean, those it is compared with included."""
        runs = [run for one in self.contributions for run in (*one.runs, *one.compared)]
        return frozenset(run.id for run in runs)


@dataclass(frozen=True)
class Explanation:
    """The values in one cell of an artifact, with the runs that they come from.

    Attributes:
        value: the whole artifact.
        own: the experiment in that cell.
        compared: the one that changes are counted from; None where no value is a change.
    """

    value: TableValue
    values: tuple[ExplainedValue, ...]
    own: Experiment
    compared: Experiment | None

    @property
    def experiments(self) -> tuple[Experiment, ...]:
        """Return the experiments whose runs matter."""
        return (self.own,) if self.compared is None else (self.own, self.compared)


@dataclass(frozen=True)
class Findings:
    """All that the database has on an artifact.

    Attributes:
        experiments: by (row, column), those that it only compares with included; in its order.
    """

    value: TableValue
    experiments: dict[tuple[str, str], Experiment]

    @property
    def behind(self) -> tuple[RunBehind, ...]:
        """Return all runs with their histories, each once."""
        experiments = self.experiments.values()
        return tuple({of.run.id: of for one in experiments for of in one.runs}.values())

    @property
    def runs(self) -> tuple[RunSummary, ...]:
        """Return all runs, each once."""
        return tuple(one.run for one in self.behind)

    @property
    def needed(self) -> int:
        """Return the number of runs of a complete artifact."""
        return len({one.spec.spec_id for one in self.experiments.values()}) * len(self.value.seeds)

    @property
    def done(self) -> int:
        """Return how many of those have a result: they finished, or diverged."""
        by_spec = {one.spec.spec_id: one for one in self.experiments.values()}.values()
        with_result = (sum(r.run.state in DONE for r in one.runs) for one in by_spec)
        return sum(with_result)

    @property
    def state(self) -> str:
        """Return whether it is complete, partial or missing."""
        return "complete" if self.done >= self.needed else "partial" if self.done else "missing"

    @property
    def diverged(self) -> int:
        """Return how many runs diverged."""
        return sum(run.state is State.DIVERGED for run in self.runs)


@one_state
def gather(database: Database, value: TableValue) -> Findings:
    """Return all that the database has on an artifact, under the request that its value answers."""
    found = runs_of(database, (spec.spec_id for spec in value.specs.values()))
    known = histories(database, [run.id for runs in found.values() for run in runs])
    experiments = {}
    for entry in value.artifact.entries:
        spec = value.specs[entry.row, entry.column]
        shown = (run for run in found[spec.spec_id] if value.seeds.shows(run.seed))
        by_seed = sorted(shown, key=lambda run: run.seed)
        behind = tuple(RunBehind(run, known[run.id]) for run in by_seed)
        said = precision_said(entry, value.request)
        experiments[entry.row, entry.column] = Experiment(entry, spec, said, behind)
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
) -> Explanation:
    """Return where the values of a network in an artifact come from, as a table shows them.

    Args:
        entry: the network, one that the artifact shows.
        metric: one of its values, by name or part of it; None for all.
        seeds: as of `TableArtifact.compute`.

    Raises:
        UnknownCellError: no value of the network is called `metric`.
    """
    value = artifact.compute(database, request, seeds)
    cells = [cell for cell in value.cells if (cell.row, cell.column) == (entry.row, entry.column)]
    if metric is not None:
        chosen = find_metric(artifact, [cell.metric for cell in cells], metric)
        cells = [cell for cell in cells if cell.metric == chosen]
    experiments = gather(database, value).experiments
    own = experiments[entry.row, entry.column]
    compared = None
    if entry.compared_with and any(METRICS[cell.metric].sign for cell in cells):
        compared = experiments[entry.compared_with]
    runs = [behind.run for behind in own.runs]
    against = [behind.run for behind in compared.runs] if compared else []
    return Explanation(
        value=value,
        values=tuple(
            ExplainedValue(
                cell,
                _how(cell, compared.entry if compared else None),
                tuple(contributions(cell.metric, runs, against)),
            )
            for cell in cells
        ),
        own=own,
        compared=compared,
    )


def precision_said(entry: Entry, request: Request) -> bool:
    """Return whether a machine with or without a GPU would train another spec by default."""
    defaults = (GPU_PRECISION[request.protocol], Precision.FP32)
    silent = (replace(request, precision=one, precision_asked=False) for one in defaults)
    return any(entry.spec(one) != entry.spec(request) for one in silent)


def _how(cell: Cell, other: Entry | None) -> str:
    text = METRICS[cell.metric].how.format(other=other.label if other else "")
    if not cell.diverged:
        return f"{text}."
    runs = "1 diverged run is" if cell.diverged == 1 else f"{cell.diverged} diverged runs are"
    return f"{text}; {runs} not in the mean."
