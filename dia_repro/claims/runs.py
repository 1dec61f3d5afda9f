"""The runs behind a claim, as rows of paired seeds and as outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dia_repro.artifacts import ARTIFACTS, Entry
from dia_repro.claims.rules import Row
from dia_repro.claims.statistics import paired_differences
from dia_repro.claims.unpaired import Group, Outcomes
from dia_repro.experiments.names import Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.experiments.spec import Spec
from dia_repro.paper import CellKey, Claim, Comparison
from dia_repro.results.queries import RunSummary
from dia_repro.results.schema import DONE, State

POINTS = "points"


def entry_at(cell: CellKey) -> Entry:
    """The network in a cell of the paper."""
    entries = ARTIFACTS[cell.artifact].entries
    return next(one for one in entries if (one.row, one.column) == (cell.row, cell.column))


def cells_of(claim: Claim) -> list[CellKey]:
    """All cells that a claim is about, each once."""
    compared = (cell for pair in claim.comparisons for cell in (pair.first, pair.second))
    return list(dict.fromkeys((*claim.cells, *compared)))


@dataclass(frozen=True)
class ClaimRuns:
    """What a claim rests on, under one request.

    Attributes:
        specs: the experiment at each of its cells.
        found: runs by spec_id.
    """

    claim: Claim
    request: Request
    specs: Mapping[CellKey, Spec]
    found: Mapping[str, Sequence[RunSummary]]

    @property
    def papers_own(self) -> bool:
        """Whether data and schedule are the paper's."""
        own = all(spec.data.dataset == entry_at(at).dataset for at, spec in self.specs.items())
        return own and self.request.protocol is Protocol.PAPER and self.request.epochs is None

    def done(self, cell: CellKey) -> list[RunSummary]:
        """Its runs with a result: those that finished and those that diverged."""
        return [run for run in self.found[self.specs[cell].spec_id] if run.state in DONE]

    def accuracies(self, cell: CellKey) -> dict[int, float]:
        """Best test accuracy over epochs by seed, in %, as the paper reports it."""
        return {
            run.seed: run.best_top1
            for run in self.done(cell)
            if run.state is State.FINISHED and run.best_top1 is not None
        }

    def diverged(self, cell: CellKey) -> int:
        """How many of its runs did."""
        return sum(run.state is State.DIVERGED for run in self.done(cell))

    def rows(self) -> list[Row]:
        """The claim's comparisons by test accuracy."""
        rows: list[Row] = []
        seen: dict[tuple[str, str], str] = {}
        for pair in self.claim.comparisons:
            specs = self.specs[pair.first].spec_id, self.specs[pair.second].spec_id
            same = seen.setdefault(specs, pair.label)
            rows.append(self._row(pair, "" if same == pair.label else f"same networks as {same}"))
        return rows

    def _row(self, pair: Comparison, note: str) -> Row:
        differences = paired_differences(self.accuracies(pair.first), self.accuracies(pair.second))
        done = [run for cell in (pair.first, pair.second) for run in self.done(cell)]
        return Row(
            compared=pair.label,
            unit=POINTS,
            differences=differences,
            begun=bool(done),
            diverged=(self.diverged(pair.first), self.diverged(pair.second)),
            note=note,
            runs=tuple(r for r in done if r.seed in differences or r.state is State.DIVERGED),
        )

    def group(self) -> Group:
        """The claim's cells as columns, the seeds that all of them have as rows."""
        columns = [self.accuracies(cell) for cell in self.claim.cells]
        seeds = sorted(set.intersection(*map(set, columns)))
        done = [run for cell in self.claim.cells for run in self.done(cell)]
        return Group(
            values=np.array([[of_one[seed] for of_one in columns] for seed in seeds]),
            begun=bool(done),
            diverged=sum(map(self.diverged, self.claim.cells)),
            runs=tuple(r for r in done if r.seed in seeds or r.state is State.DIVERGED),
        )

    def outcomes(self) -> list[Outcomes]:
        """What became of each cell's runs."""
        return [
            Outcomes(
                f"{cell.row}: {cell.column}",
                self.diverged(cell),
                len(self.done(cell)),
                tuple(self.done(cell)),
            )
            for cell in self.claim.cells
        ]
