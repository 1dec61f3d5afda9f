"""Artifacts: which networks they need, and how their cells come from runs.

A table has a cell for each value that the paper prints, and for each network that it does not show
the parameters and the accuracy; a figure has the accuracy of each network that it is drawn from.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from string import ascii_lowercase
from typing import Literal

from dia_repro.artifacts.metrics import METRICS, contributions
from dia_repro.data import DataChoice
from dia_repro.experiments.attention import AttentionSpec
from dia_repro.experiments.backbones import ImpossibleNetworkError
from dia_repro.experiments.names import Precision, Protocol
from dia_repro.experiments.protocols import Request, choose_data, make_spec
from dia_repro.experiments.seeds import Seeds
from dia_repro.experiments.spec import ModelSpec, Spec
from dia_repro.paper.facts import PaperCell, PaperTable, figures, tables
from dia_repro.results.database import Database, one_state
from dia_repro.results.queries import Differences, RunSummary, mixed_environments, runs_of
from dia_repro.results.schema import DONE, State

# Values of the paper that are not measured: the spread goes into a mean's own column, and r is
# chosen, not found.
NOT_MEASURED = ("top1_std", "reduction")
# Of networks that the paper does not show in a table.
UNPRINTED = ("params", "top1")


class Drawing(StrEnum):
    """Picture that is drawn of an artifact's runs."""

    ACCURACY = "learning curves of test accuracy"
    LOSS = "learning curves of training loss"
    HEATMAP = "heatmap of feature integration"
    HISTOGRAMS = "histograms of gradients"


@dataclass(frozen=True)
class Entry:
    """One network of a table.

    Attributes:
        row, column: its names, in the paper's words.
        network: the column of Table 10 or 11 that says how it is trained.
        dataset: data that it is trained on in the paper.
        compared_with: (row, column) of the entry against which changes count; in an artifact of
            one's own, also the network that this one is claimed to be more accurate than.
        augment: whether training images are augmented.
        numerics_matter: whether fp32 is trained unless the user asks for less.
        shown: False for a network that the table needs only to compare with.
    """

    row: str
    column: str
    model: ModelSpec
    network: str = "ResNet164"
    dataset: str = "cifar100"
    compared_with: tuple[str, str] | None = None
    augment: bool = True
    numerics_matter: bool = False
    shown: bool = True

    @property
    def label(self) -> str:
        """Return a name for people, e.g. "DIANet ResNet164"."""
        return f"{self.column} {self.row}"

    def data(self, request: Request) -> DataChoice:
        """Return the data that it is trained on, under a request."""
        return choose_data(self.model, self.dataset, request)

    def spec(self, request: Request) -> Spec:
        """Return the experiment behind this cell of the table, under a request."""
        if self.numerics_matter and not request.precision_asked:
            request = replace(request, precision=Precision.FP32)
        return make_spec(self.model, self.network, self.dataset, request, augment=self.augment)


@dataclass(frozen=True)
class Cell:
    """One value of a table: the paper's, and ours with the runs behind it.

    Attributes:
        metric: a metric of the paper's tables, or `top1_last` for the last epoch; `top1` is the
            best over epochs, as the authors report it.
        paper: nan for a divergence, None where the paper prints nothing.
        ours_mean: over seeds; nan if every run diverged, None without a run.
        ours_std: n-1 in the denominator; None with fewer than two.
        n: runs behind the mean.
        n_expected: seeds that were asked for.
        diverged: runs that ended in a loss that is not finite.
        status: `complete`, `partial`, `diverged` or `missing`.
        runs: numbers of the runs that were looked at.
        uids: the runs behind the value, by the names that they keep across databases, in the
            order of their seeds: those that make up the mean, and those that diverged.
        compared_uids: the runs that a change is counted from.
    """

    artifact: str
    row: str
    column: str
    metric: str
    unit: str
    paper: float | None
    ours_mean: float | None
    ours_std: float | None
    n: int
    n_expected: int
    diverged: int
    status: str
    protocol: str
    dataset: str
    precision: str
    spec_id: str
    runs: tuple[int, ...]
    uids: tuple[str, ...] = ()
    compared_uids: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableArtifact:
    """A table, or the networks behind a figure, in the paper's order.

    Attributes:
        name: `table5`, `figure6`; an artifact of one's own has any other name.
        row_heading: what the rows are.
        headings: how columns are headed where the paper says more than the network's name.
        best_of: where the paper sets the best accuracy in bold: of each row, of each column,
            or nowhere.
        title: of an artifact of one's own; the paper's have the paper's.
        attention_in: where networks with another attention go: in a column, or in a row where
            rows are what attends.
        drawings: what is drawn of its runs.
        attention: kinds that its networks have in addition to their own.
    """

    name: str
    row_heading: str
    entries: tuple[Entry, ...]
    headings: dict[str, str] = field(default_factory=dict)
    best_of: Literal["row", "column"] | None = None
    title: str = ""
    attention_in: Literal["row", "column"] = "column"
    drawings: tuple[Drawing, ...] = (Drawing.ACCURACY,)
    attention: tuple[AttentionSpec, ...] = ()

    @property
    def in_paper(self) -> bool:
        """Return whether it is a table or figure of the paper."""
        return self.name in {**tables(), **figures()}

    @cached_property
    def paper(self) -> PaperTable:
        """Return what the paper prints, with empty cells for the networks that it does not show."""
        nothing = PaperTable(self.name, self.title or self.name, (), (), ())
        printed = {**tables(), **figures()}.get(self.name, nothing)
        known = {(cell.row, cell.column) for cell in printed.cells}
        shown = [(entry.row, entry.column) for entry in self.entries if entry.shown]
        metrics = UNPRINTED[1:] if self.is_figure else UNPRINTED
        return replace(
            printed,
            rows=tuple(dict.fromkeys((*printed.rows, *(row for row, _ in shown)))),
            columns=tuple(dict.fromkeys((*printed.columns, *(column for _, column in shown)))),
            cells=(
                *printed.cells,
                *(
                    PaperCell(self.name, row, column, metric, "")
                    for row, column in shown
                    if (row, column) not in known
                    for metric in metrics
                ),
            ),
        )

    @property
    def label(self) -> str:
        """Return e.g. "Table 5"; the name of an artifact of one's own."""
        if not self.in_paper:
            return self.name
        return f"{'Figure' if self.is_figure else 'Table'} {self.name.lstrip(ascii_lowercase)}"

    @property
    def is_figure(self) -> bool:
        """Return whether the paper shows a picture, of which this lists the networks."""
        return self.name in figures()

    def with_attention(self, *kinds: AttentionSpec) -> TableArtifact:
        """Return the artifact with a column, or a row, more for networks with each attention.

        Their backbones, data and recipes are those of its own networks.
        """
        if not kinds:
            return self
        entries = {(entry.row, entry.column): entry for entry in self.entries}
        for attention in kinds:
            for name in (attention.heading, attention.label):
                added = self._with_attention(attention, name)
                if all(entries.get(cell, new).model == new.model for cell, new in added.items()):
                    break  # else a column of that name has other options
            entries |= {cell: new for cell, new in added.items() if cell not in entries}
        both = (*self.attention, *kinds)
        return replace(self, entries=tuple(entries.values()), attention=both)

    def _with_attention(self, attention: AttentionSpec, name: str) -> dict[tuple[str, str], Entry]:
        """Return the networks with an attention by cell, those with the same backbone once."""
        added: dict[tuple[str, str], Entry] = {}
        impossible: ImpossibleNetworkError | None = None
        in_row = self.attention_in == "row"
        for entry in (entry for entry in self.entries if entry.shown):
            row, column = (name, entry.column) if in_row else (entry.row, name)
            try:
                model = entry.model.with_attention(attention)
            except ImpossibleNetworkError as error:  # others may have the stage
                impossible = error
                continue
            new = replace(entry, row=row, column=column, model=model, compared_with=None)
            added.setdefault((row, column), new)
        if impossible and not added:
            raise impossible
        return added

    def specs(self, request: Request) -> dict[tuple[str, str], Spec]:
        """Return the experiment behind each (row, column)."""
        return {(entry.row, entry.column): entry.spec(request) for entry in self.entries}

    def as_usual(self, request: Request) -> Request:
        """Return the request without its length where that is what each network has anyway."""
        usual = replace(request, epochs=None)
        return usual if self.specs(usual) == self.specs(request) else request

    @one_state
    def compute(
        self, database: Database, request: Request, seeds: Seeds | None = None
    ) -> TableValue:
        """Return the table from what the database holds.

        Args:
            request: protocol, precision and data: only runs of exactly these specs count.
            seeds: those that a cell should have at least; it should have those of any other
                cell, too, unless they were chosen: then runs of other seeds are left out.
        """
        request = self.as_usual(request)
        specs = self.specs(request)
        everything = runs_of(database, (spec.spec_id for spec in specs.values()))
        asked = seeds or Seeds(())
        found = {
            spec_id: tuple(run for run in runs if asked.shows(run.seed))
            for spec_id, runs in everything.items()
        }
        expected = asked.joined(run.seed for runs in found.values() for run in runs)
        mixed = mixed_environments(database, found, asked.numbers if asked.chosen else None)
        if other := _other_seeds(found.values()):
            mixed.between["seeds"] = other
        cells = tuple(
            cell
            for entry in self.entries
            if entry.shown
            for cell in self._entry_cells(entry, specs, found, len(expected), request.protocol)
        )
        return TableValue(self, request, specs, expected, cells, mixed)

    def _entry_cells(
        self,
        entry: Entry,
        specs: dict[tuple[str, str], Spec],
        found: dict[str, tuple[RunSummary, ...]],
        expected: int,
        protocol: Protocol,
    ) -> Iterator[Cell]:
        spec = specs[entry.row, entry.column]
        runs = found[spec.spec_id]
        against: tuple[RunSummary, ...] = ()
        if entry.compared_with is not None:
            against = found[specs[entry.compared_with].spec_id]
        for printed in self._printed(entry):
            behind = contributions(printed.metric, runs, against)
            values = [one.value for one in behind]
            accuracy = METRICS[printed.metric].epoch is not None
            without_accuracy = [run for run in runs if accuracy and run.state is State.DIVERGED]
            diverged = len(without_accuracy)
            yield Cell(
                artifact=self.name,
                row=entry.row,
                column=entry.column,
                metric=printed.metric,
                unit=printed.unit,
                paper=float(printed.printed) if printed.printed else None,
                ours_mean=_mean(values, diverged),
                ours_std=statistics.stdev(values) if accuracy and len(values) > 1 else None,
                n=len(values),
                n_expected=expected if accuracy else 1,
                diverged=diverged,
                status=_status(len(values), expected if accuracy else 1, diverged),
                protocol=protocol.value,
                dataset=spec.data.dataset,
                precision=spec.precision,
                spec_id=spec.spec_id,
                runs=tuple(run.id for run in runs),
                uids=_names([run for one in behind for run in one.runs] + without_accuracy),
                compared_uids=_names(run for one in behind for run in one.compared),
            )

    def _printed(self, entry: Entry) -> Iterator[PaperCell]:
        for cell in self.paper.cells:
            if (cell.row, cell.column) == (entry.row, entry.column):
                if cell.metric not in NOT_MEASURED:
                    yield cell
                if cell.metric == "top1":
                    yield PaperCell(self.name, entry.row, entry.column, "top1_last", "")


@dataclass(frozen=True)
class TableValue:
    """A table of the paper with our values, ready to be drawn.

    Attributes:
        specs: the experiment at each (row, column).
        seeds: those that a cell should have; runs of others are left out if they were chosen.
        mixed: environments, and seeds, that its runs differ in.
    """

    artifact: TableArtifact
    request: Request
    specs: dict[tuple[str, str], Spec]
    seeds: Seeds
    cells: tuple[Cell, ...]
    mixed: Differences = field(default_factory=Differences)

    @property
    def own_data(self) -> bool:
        """Return whether data are the paper's."""
        entries = self.artifact.entries
        return all(self.specs[one.row, one.column].data.dataset == one.dataset for one in entries)

    @property
    def comparable(self) -> bool:
        """Return whether data and schedule are the paper's: else a difference means nothing."""
        papers_own = self.request.protocol is Protocol.PAPER and self.request.epochs is None
        return papers_own and self.own_data

    @property
    def printed(self) -> bool:
        """Return whether the paper prints any value of it."""
        return any(cell.paper is not None for cell in self.cells)

    def find(self, row: str, column: str, metric: str) -> Cell | None:
        """Return our value in that cell, if the table has one."""
        key = (row, column, metric)
        return next((c for c in self.cells if (c.row, c.column, c.metric) == key), None)


def _other_seeds(found: Iterable[Sequence[RunSummary]]) -> tuple[str, ...]:
    """Return the seeds of the cells' results, where one cell lacks some and has others instead."""
    seeds = {tuple(run.seed for run in runs if run.state in DONE) for runs in found}
    by_number = sorted(seeds, key=len)
    nested = all(set(few) <= set(more) for few, more in pairwise(by_number))
    return () if nested else tuple(sorted(" ".join(map(str, known)) for known in seeds if known))


def _names(runs: Iterable[RunSummary]) -> tuple[str, ...]:
    # By seed: the order of their numbers is another one after a merge.
    return tuple(dict.fromkeys(run.uid for run in sorted(runs, key=lambda run: run.seed)))


def _mean(values: Sequence[float], diverged: int) -> float | None:
    if values:
        return statistics.fmean(values)
    return math.nan if diverged else None


def _status(n: int, expected: int, diverged: int) -> str:
    if diverged:
        return "diverged"
    if not n:
        return "missing"
    return "complete" if n >= expected else "partial"
