"""Artifacts: which networks they need, and how their cells come from runs.

A table has a cell for each value that the paper prints, and for each network that it does not show
the parameters and the accuracy; a figure has the accuracy of each network that it is drawn from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from string import ascii_lowercase
from typing import Literal

from dia_repro.artifacts.metrics import Cell, has_result, make_cell
from dia_repro.data import DataChoice
from dia_repro.errors import UsageError
from dia_repro.experiments.attention import AttentionSpec
from dia_repro.experiments.backbones import ImpossibleNetworkError
from dia_repro.experiments.names import Precision, Protocol, SelectOn
from dia_repro.experiments.protocols import Request, choose_data, make_spec
from dia_repro.experiments.seeds import Seeds
from dia_repro.experiments.spec import ModelSpec, RecipeSpec, Spec
from dia_repro.paper.facts import PaperCell, PaperTable, figures, tables
from dia_repro.results.database import Database, one_state
from dia_repro.results.queries import Differences, RunSummary, data_of, mixed_environments, runs_of
from dia_repro.results.schema import DONE, OURS

# Values of the paper that are not measured: the spread goes into a mean's own column, and r is
# chosen, not found.
NOT_MEASURED = ("top1_std", "reduction")
# Metrics of networks that the paper does not show in a table.
UNPRINTED = ("params", "top1")
Position = tuple[str, str]  # row and column in a table


class Drawing(StrEnum):
    """Picture that is drawn of an artifact's runs."""

    ACCURACY = "learning curves of test accuracy"
    LOSS = "learning curves of training loss"
    HEATMAP = "heatmap of feature integration"
    HISTOGRAMS = "histograms of gradients"


@dataclass(frozen=True)
class Entry:
    """A network of a table.

    Attributes:
        row, column: its names, in the paper's words.
        network: column of Table 10 or 11 with its recipe.
        dataset: data that it is trained on in the paper.
        compared_with: position of the entry against which changes count; in a user's artifact,
            also the network that this one is claimed to be more accurate than.
        augment: whether training images are augmented.
        numerics_matter: whether fp32 is trained unless the user asks for less.
        shown: False for a network that the table needs only to compare with.
    """

    row: str
    column: str
    model: ModelSpec
    network: str = "ResNet164"
    dataset: str = "cifar100"
    compared_with: Position | None = None
    augment: bool = True
    numerics_matter: bool = False
    shown: bool = True

    @property
    def position(self) -> Position:
        """Return its row and column."""
        return self.row, self.column

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
class TableArtifact:
    """A table, or the networks behind a figure, in the paper's order.

    Attributes:
        name: `table5`, `figure6`; any other name for a user's artifact.
        row_heading: heading of the rows.
        headings: headings of columns where the paper says more than the network's name.
        best_of: lines whose best accuracy the paper sets in bold.
        title: title of a user's artifact; the paper's have the paper's.
        attention_in: where networks with another attention go: in a column, or in a row where
            each row is an attention.
        drawings: pictures that are drawn of its runs.
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
        return self.name in tables() or self.is_figure

    @property
    def is_figure(self) -> bool:
        """Return whether the paper shows a picture, of which this lists the networks."""
        return self.name in figures()

    @cached_property
    def paper(self) -> PaperTable:
        """Return what the paper prints, with empty cells for the networks that it does not show."""
        nothing = PaperTable(self.name, self.title or self.name, (), (), ())
        printed = {**tables(), **figures()}.get(self.name, nothing)
        known = {(cell.row, cell.column) for cell in printed.cells}
        shown = [entry for entry in self.entries if entry.shown]
        metrics = UNPRINTED[1:] if self.is_figure else UNPRINTED
        empty = (
            PaperCell(self.name, *entry.position, metric, "")
            for entry in shown
            if entry.position not in known
            for metric in metrics
        )
        return replace(
            printed,
            rows=tuple(dict.fromkeys((*printed.rows, *(entry.row for entry in shown)))),
            columns=tuple(dict.fromkeys((*printed.columns, *(entry.column for entry in shown)))),
            cells=(*printed.cells, *empty),
        )

    @property
    def label(self) -> str:
        """Return e.g. "Table 5"; the name of an artifact that the paper does not have."""
        if not self.in_paper:
            return self.name
        return f"{'Figure' if self.is_figure else 'Table'} {self.name.lstrip(ascii_lowercase)}"

    def with_attention(self, *kinds: AttentionSpec) -> TableArtifact:
        """Return the artifact with a column, or a row, more for networks with each attention.

        Their backbones, data and recipes are those of the artifact's networks. A column is named
        as `--attention` takes the kind where a shorter name is that of another network.

        Raises:
            UsageError: all its names are those of other networks.
        """
        if not kinds:
            return self
        entries = {entry.position: entry for entry in self.entries}
        for attention in kinds:
            for name in (attention.heading, attention.label, attention.text):
                added = self._with_attention(attention, name)
                if all(entries.get(cell, new).model == new.model for cell, new in added.items()):
                    break
            else:
                raise UsageError(f"{self.label} has another network named {attention.text}")
            for cell, new in added.items():
                entries[cell] = replace(entries.get(cell, new), shown=True)
        both = (*self.attention, *kinds)
        return replace(self, entries=tuple(entries.values()), attention=both)

    def _with_attention(self, attention: AttentionSpec, name: str) -> dict[Position, Entry]:
        """Return the networks with an attention, those with the same backbone once."""
        added: dict[Position, Entry] = {}
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

    def specs(self, request: Request) -> dict[Position, Spec]:
        """Return the experiment behind each row and column."""
        return {entry.position: entry.spec(request) for entry in self.entries}

    def protocol_of(self, spec: Spec) -> tuple[str, set[float]]:
        """Return the protocol that trained one of its networks, and the initial rates there.

        It is told by what no option changes: batch size, momentum and weight decay. A recipe of
        neither protocol has no name and no rates.
        """
        for protocol in Protocol:
            recipes = [entry.spec(Request(protocol)).recipe for entry in self.entries]
            rates = {known.lr for known in recipes if _kept(known) == _kept(spec.recipe)}
            if rates:
                return f"{protocol.value} protocol", rates
        return "", set()

    def at_usual_rate(self, spec: Spec) -> bool:
        """Return whether one of its networks was trained at its protocol's initial rate."""
        return spec.recipe.lr in self.protocol_of(spec)[1]

    def departure(self, specs: Sequence[Spec]) -> str:
        """Return how experiments depart from the paper's and from their protocol, for a title."""
        rates = sorted({spec.recipe.lr for spec in specs if not self.at_usual_rate(spec)})
        text = f" at rate {' and '.join(f'{rate:g}' for rate in rates)}" if rates else ""
        if any(spec.data.dataset != self.entries[0].dataset for spec in specs):
            protocols = dict.fromkeys(self.protocol_of(spec)[0] for spec in specs)
            by = " and ".join(filter(None, protocols)) or "another recipe"
            return f"{text} ({by}, not the paper’s data)"
        papers = [entry.spec(Request(Protocol.PAPER)).recipe for entry in self.entries]
        by_it = all(spec.recipe in papers for spec in specs)
        return text if by_it else f"{text} (not the paper’s schedule)"

    def as_usual(self, request: Request) -> Request:
        """Return the request without its length and rate where each network has them anyway."""
        shorter = replace(request, epochs=None)
        for usual in (replace(shorter, rate=None), shorter, replace(request, rate=None)):
            if self.specs(usual) == self.specs(request):
                return usual
        return request

    @one_state
    def compute(
        self, database: Database, request: Request, seeds: Seeds | None = None
    ) -> TableValue:
        """Return the table from what the database holds of its origin, and others' next to ours.

        Args:
            request: protocol, precision and data: only runs of exactly these specs count.
            seeds: those that a cell should have at least; it should have those of any other
                cell, too, unless they were chosen: then runs of other seeds are left out.
        """
        value = self._compute(database, self.as_usual(request), seeds)
        ids = [spec.spec_id for spec in value.specs.values()]
        origins = database.origins() if database.origin == OURS else ()
        others = {name: self._compute(database.of(name), request, seeds).cells for name in origins}
        known = {name: cells for name, cells in others.items() if any(map(has_result, cells))}
        ours = data_of(database, ids) if known else set()
        elsewhere = {name: data_of(database.of(name), ids) for name in known}
        apart = {
            name
            for name, theirs in elsewhere.items()
            if any(spec in dict(ours) and (spec, data) not in ours for spec, data in theirs)
        }
        return replace(value, others=known, on_other_data=frozenset(apart))

    def _compute(self, database: Database, request: Request, seeds: Seeds | None) -> TableValue:
        specs = self.specs(request)
        asked = seeds or Seeds(())
        found = {
            spec_id: tuple(run for run in runs if asked.shows(run.seed))
            for spec_id, runs in runs_of(database, (s.spec_id for s in specs.values())).items()
        }
        expected = asked.joined(run.seed for runs in found.values() for run in runs)
        mixed = mixed_environments(database, found, asked.numbers if asked.chosen else None)
        if seeds_apart := _other_seeds(found.values()):
            mixed.between["seeds"] = seeds_apart
        cells = []
        for entry in (entry for entry in self.entries if entry.shown):
            spec = specs[entry.position]
            others = (other for other in self.entries if other.position == entry.compared_with)
            other = next(others, None)
            cells += [
                make_cell(
                    printed,
                    spec,
                    request.protocol,
                    len(expected),
                    found[spec.spec_id],
                    found[specs[other.position].spec_id] if other else (),
                    other.label if other else "",
                )
                for printed in self._printed(entry, spec)
            ]
        whose = database.origin
        cells = [replace(cell, origin=whose) for cell in cells]
        return TableValue(self, request, specs, expected, tuple(cells), mixed, origin=whose)

    def _printed(self, entry: Entry, spec: Spec) -> Iterator[PaperCell]:
        """Yield the paper's cells of a network that we measure, and one for the last epoch.

        Where images are held out for validation, only the epoch that they choose is tested.
        """
        for cell in self.paper.cells:
            if (cell.row, cell.column) == entry.position:
                if cell.metric not in NOT_MEASURED:
                    yield cell
                if cell.metric == "top1" and spec.data.validation is None:
                    yield replace(cell, metric="top1_last", printed="")


@dataclass(frozen=True)
class TableValue:
    """A table of the paper with our values, ready to be drawn.

    Attributes:
        specs: experiments by row and column.
        seeds: those that a cell should have; runs of others are left out if they were chosen.
        mixed: environments, and seeds, that its runs differ in.
        origin: whose runs they are; empty for ours.
        others: the same cells from the runs of others, by their names, where they have any.
        on_other_data: those of them whose data of some experiment are not ours.
    """

    artifact: TableArtifact
    request: Request
    specs: dict[Position, Spec]
    seeds: Seeds
    cells: tuple[Cell, ...]
    mixed: Differences = field(default_factory=Differences)
    origin: str = OURS
    others: dict[str, tuple[Cell, ...]] = field(default_factory=dict)
    on_other_data: frozenset[str] = frozenset()

    @property
    def own_data(self) -> bool:
        """Return whether data are the paper's, and all of them are trained on."""
        entries = ((entry, self.specs[entry.position].data) for entry in self.artifact.entries)
        return all(
            data.dataset == entry.dataset and data.validation is None for entry, data in entries
        )

    @property
    def validated(self) -> bool:
        """Return whether images that are held out choose the epoch whose accuracy is shown."""
        return self.request.select is SelectOn.VALIDATION

    @property
    def comparable(self) -> bool:
        """Return whether data and schedule are the paper's: else a difference means nothing."""
        return self.request.papers_schedule and self.own_data

    @property
    def printed(self) -> bool:
        """Return whether the paper prints any value of it."""
        return any(cell.paper is not None for cell in self.cells)

    def find(self, row: str, column: str, metric: str) -> Cell | None:
        """Return our value in that cell, if the table has one."""
        key = (row, column, metric)
        return next((c for c in self.cells if (c.row, c.column, c.metric) == key), None)


def _kept(recipe: RecipeSpec) -> tuple[float, ...]:
    """Return what of a recipe no option changes."""
    return recipe.batch_size, recipe.momentum, recipe.weight_decay


def _other_seeds(found: Iterable[Sequence[RunSummary]]) -> tuple[str, ...]:
    """Return the seeds of the cells' results, where one cell lacks some and has others instead."""
    seeds = {tuple(run.seed for run in runs if run.state in DONE) for runs in found}
    by_number = sorted(seeds, key=len)
    nested = all(set(few) <= set(more) for few, more in pairwise(by_number))
    return () if nested else tuple(sorted(" ".join(map(str, known)) for known in seeds if known))
