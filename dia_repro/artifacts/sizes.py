"""Accuracy against the number of parameters: the networks of Tables 3 to 5 in one picture."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace

from dia_repro.artifacts.paper import DIANET, TABLE3, TABLE4, TABLE5
from dia_repro.artifacts.selection import Wanted, best_covered
from dia_repro.artifacts.table import Entry, TableValue
from dia_repro.experiments.seeds import Seeds
from dia_repro.results.database import Database, one_state

TABLES = (TABLE3, TABLE4, TABLE5)
ALL_NETWORKS = replace(
    TABLE3, name="sizes", entries=(*TABLE3.entries, *TABLE4.entries, *TABLE5.entries)
)


@dataclass(frozen=True)
class Mark:
    """A network in the picture.

    Attributes:
        network: e.g. "ResNet164", or "ResNet164 r=1" for a row of Table 4.
        kind: the paper's name of the attention: original, SENet or DIANet.
        parameters: count in millions.
        top1: test accuracy in %, the best over epochs; nan if all its runs diverged.
        std: standard deviation over seeds; None with fewer than two, and for the paper.
        n: number of runs; 0 for the paper.
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
    """Accuracy against parameters of our networks and the paper's.

    Attributes:
        values: Tables 3 to 5 under one request.
        comparable: whether ours and the paper's may be in one panel.
    """

    values: tuple[TableValue, ...]
    comparable: bool
    panels: tuple[SizePanel, ...]


@one_state
def sizes(database: Database, wanted: Wanted, seeds: Seeds | None = None) -> Sizes:
    """Return Tables 3 to 5 under the one request that most of their runs answer."""
    request = best_covered(ALL_NETWORKS, database, wanted)
    values = tuple(table.compute(database, request, seeds) for table in TABLES)
    comparable = all(value.comparable for value in values)
    paper: dict[str, dict[Mark, None]] = defaultdict(dict)  # each mark once, in their order
    ours: dict[str, dict[str, Mark]] = defaultdict(dict)
    for value in values:
        for entry in value.artifact.entries:
            spec = value.specs[entry.position]
            data = entry.dataset if comparable else spec.data.label
            printed, trained = _marks(entry, value)
            if printed is not None:
                paper[entry.dataset][printed] = None
            if trained is not None:
                ours[data].setdefault(spec.spec_id, trained)
    own = {data: tuple(marks.values()) for data, marks in ours.items()}
    panels = [
        SizePanel(data, tuple(marks), own.pop(data, ()) if comparable else ())
        for data, marks in paper.items()
    ]
    panels = [*(SizePanel(data, (), marks) for data, marks in own.items()), *panels]
    return Sizes(values, comparable, tuple(panels))


def _marks(entry: Entry, value: TableValue) -> tuple[Mark | None, Mark | None]:
    """Return the paper's mark of a network, and ours; None where a count or accuracy is missing."""
    params, top1 = (value.find(*entry.position, metric) for metric in ("params", "top1"))
    if params is None or top1 is None:
        return None, None
    network, kind = entry.row.split()[0], entry.column
    if entry.row.startswith("r="):  # Table 4, whose r = 4 is the other tables' DIANet
        network, kind = "ResNet164" if entry.row == "r=4" else f"ResNet164 {entry.row}", DIANET
    printed = trained = None
    if params.paper is not None and top1.paper is not None:
        printed = Mark(network, kind, params.paper, top1.paper)
    if params.ours_mean is not None and top1.ours_mean is not None:
        trained = Mark(network, kind, params.ours_mean, top1.ours_mean, top1.ours_std, top1.n)
    return printed, trained
