"""Accuracy against the number of parameters: the networks of Tables 3 to 5 in one picture."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from dia_repro.artifacts.networks import DIANET
from dia_repro.artifacts.selection import Wanted, best_covered_by_all
from dia_repro.artifacts.table import Entry, TableArtifact, TableValue
from dia_repro.artifacts.table3 import TABLE3
from dia_repro.artifacts.table4 import TABLE4
from dia_repro.artifacts.table5 import TABLE5
from dia_repro.experiments.seeds import Seeds
from dia_repro.results.database import Database, one_state

TABLES: tuple[TableArtifact, ...] = (TABLE3, TABLE4, TABLE5)


@dataclass(frozen=True)
class Mark:
    """One network.

    Attributes:
        network: e.g. "ResNet164", or "ResNet164 r=1" for a row of Table 4.
        kind: the paper's name of what attends: original, SENet or DIANet.
        parameters: in millions.
        top1: test accuracy in %, the best over epochs; nan if all its runs diverged.
        std: over seeds; None with fewer than two, and for the paper.
        n: runs behind it; 0 for the paper.
    """

    network: str
    kind: str
    parameters: float
    top1: float
    std: float | None = None
    n: int = 0

    @property
    def diverged(self) -> bool:
        """Return whether there is no accuracy to show."""
        return not math.isfinite(self.top1)


@dataclass(frozen=True)
class SizePanel:
    """The networks trained on the same data.

    Attributes:
        paper, ours: either may be empty; both only where data and schedule are the paper's.
    """

    data: str
    paper: tuple[Mark, ...]
    ours: tuple[Mark, ...]


@dataclass(frozen=True)
class Sizes:
    """Accuracy against parameters of ours and the paper's networks.

    Attributes:
        values: Tables 3 to 5 under one request.
        comparable: whether ours and the paper's may stand in one panel.
    """

    values: tuple[TableValue, ...]
    comparable: bool
    panels: tuple[SizePanel, ...]


@one_state
def sizes(database: Database, wanted: Wanted, seeds: Seeds | None = None) -> Sizes:
    """Tables 3 to 5 under the one request that most of their runs answer."""
    request = best_covered_by_all(TABLES, database, wanted)
    values = tuple(table.compute(database, request, seeds) for table in TABLES)
    comparable = all(value.comparable for value in values)
    paper: dict[str, dict[Mark, None]] = defaultdict(dict)  # each mark once, in their order
    ours: dict[str, dict[str, Mark]] = defaultdict(dict)
    for value in values:
        for entry in value.artifact.entries:
            spec = value.specs[entry.row, entry.column]
            data = entry.dataset if comparable else spec.data.label
            for mark in _paper(entry, value):
                paper[entry.dataset][mark] = None
            for mark in _ours(entry, value):
                ours[data].setdefault(spec.spec_id, mark)
    own = {data: tuple(marks.values()) for data, marks in ours.items()}
    panels = [
        SizePanel(data, tuple(marks), own.pop(data, ()) if comparable else ())
        for data, marks in paper.items()
    ]
    panels = [*(SizePanel(data, (), marks) for data, marks in own.items()), *panels]
    return Sizes(values, comparable, tuple(panels))


def _names(entry: Entry) -> tuple[str, str]:
    """Network and kind; Table 4's rows are r, and that with r = 4 is the other tables' DIANet."""
    if entry.row.startswith("r="):
        return ("ResNet164" if entry.row == "r=4" else f"ResNet164 {entry.row}"), DIANET
    return entry.row.split()[0], entry.column


def _paper(entry: Entry, value: TableValue) -> Iterator[Mark]:
    printed = [value.find(entry.row, entry.column, metric) for metric in ("params", "top1")]
    known = [cell.paper for cell in printed if cell is not None and cell.paper is not None]
    if len(known) == len(printed):
        yield Mark(*_names(entry), known[0], known[1])


def _ours(entry: Entry, value: TableValue) -> Iterator[Mark]:
    params = value.find(entry.row, entry.column, "params")
    top1 = value.find(entry.row, entry.column, "top1")
    if params is None or top1 is None or params.ours_mean is None or top1.ours_mean is None:
        return
    yield Mark(*_names(entry), params.ours_mean, top1.ours_mean, top1.ours_std, top1.n)
