"""All that the database has on an artifact: its figures, its networks, and how their runs went."""

from __future__ import annotations

from dataclasses import dataclass

from dia_repro.artifacts.explanation import Experiment, RunBehind, precision_said, runs_behind
from dia_repro.artifacts.table import TableArtifact, TableValue
from dia_repro.results.database import Database, one_state
from dia_repro.results.histories import histories
from dia_repro.results.queries import RunSummary, runs_of
from dia_repro.results.schema import DONE, State


@dataclass(frozen=True)
class Findings:
    """What there is to show of an artifact.

    Attributes:
        experiments: by (row, column), those that it only compares with included; in its order.
    """

    artifact: TableArtifact
    value: TableValue
    experiments: dict[tuple[str, str], Experiment]

    @property
    def behind(self) -> tuple[RunBehind, ...]:
        """All runs with their histories, each once."""
        experiments = self.experiments.values()
        return tuple({of.run.id: of for one in experiments for of in one.runs}.values())

    @property
    def runs(self) -> tuple[RunSummary, ...]:
        """All runs, each once."""
        return tuple(one.run for one in self.behind)

    @property
    def needed(self) -> int:
        """How many runs a complete artifact rests on."""
        return len({one.spec.spec_id for one in self.experiments.values()}) * self.value.seeds

    @property
    def done(self) -> int:
        """How many of those have a result: they finished, or diverged."""
        by_spec = {one.spec.spec_id: one for one in self.experiments.values()}.values()
        with_result = (sum(r.run.state in DONE for r in one.runs) for one in by_spec)
        return sum(min(count, self.value.seeds) for count in with_result)

    @property
    def diverged(self) -> int:
        """How many diverged."""
        return sum(run.state is State.DIVERGED for run in self.runs)


@one_state
def gather(artifact: TableArtifact, database: Database, value: TableValue) -> Findings:
    """All that the database has on an artifact, under the request that its value answers."""
    found = runs_of(database, (spec.spec_id for spec in value.specs.values()))
    numbers = [run.id for runs in found.values() for run in runs]
    known = histories(database, numbers)
    experiments = {}
    for entry in artifact.entries:
        spec = value.specs[entry.row, entry.column]
        runs = runs_behind(found[spec.spec_id], known)
        experiments[entry.row, entry.column] = Experiment(
            entry, spec, precision_said(entry, value.request), runs
        )
    return Findings(artifact, value, experiments)
