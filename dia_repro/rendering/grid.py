"""A table as rows of text under grouped headings, for every format alike."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dia_repro.artifacts import Cell, TableValue
from dia_repro.experiments.protocols import Request
from dia_repro.paper.independent import SOURCE, independent_row
from dia_repro.rendering.layout import WHOLE, Columns, Layout, NothingShownError
from dia_repro.results.queries import Differences

MISSING = "–"
MENTIONED = 3
# Columns of provenance, for people.
NAMES = {
    "git_commit": "commit",
    "git_clean": "checkout",
    "package": "dia-repro",
    "code_sha256": "code",
    "data_sha256": "data",
    "step": "execution mode",
}
SHORTENED = ("git_commit", "code_sha256", "data_sha256")
CHANGE, DROP = "+.2f", "drop"  # a drop is a positive value, written with an arrow
# Metrics that are written in brackets behind another, the first one that the table has.
CHANGES = {
    "params": (("params_delta", CHANGE), ("params_drop", DROP)),
    "top1": (("top1_drop", DROP),),
}


@dataclass(frozen=True)
class Heading:
    """Heading of a column of a group.

    Attributes:
        whose: whose values the column has.
        metric: of the cells that the values are taken from.
    """

    text: str
    whose: Literal["paper", "ours", "difference"]
    metric: str


PAPER_PARAMETERS, PARAMETERS = (
    Heading("#P (M), paper", "paper", "params"),
    Heading("ours", "ours", "params"),
)
OWN_PARAMETERS = Heading("#P (M)", "ours", "params")  # where the paper prints none
PAPER = Heading("top-1 (%), paper", "paper", "top1")
BEST, LAST = Heading("ours, best", "ours", "top1"), Heading("ours, last", "ours", "top1_last")
DIFFERENCE = Heading("Δ", "difference", "top1")


@dataclass(frozen=True)
class GridCell:
    """One text of a grid; `cell` is the value behind it, None where the table has none."""

    text: str
    bold: bool = False
    cell: Cell | None = None


@dataclass(frozen=True)
class GridRow:
    """A row: its name, and for each group of the grid a text for each heading."""

    name: str
    groups: tuple[tuple[GridCell, ...], ...]


@dataclass(frozen=True)
class Grid:
    """A table as it is written in every format.

    Attributes:
        title: one line; it says so where protocol or data are not the paper's.
        notes: lines below the table.
        row_heading: heading of the rows' names.
        groups: a heading for each group of columns.
        headings: of the columns of each group.
    """

    title: str
    notes: tuple[str, ...]
    row_heading: str
    groups: tuple[str, ...]
    headings: tuple[Heading, ...]
    rows: tuple[GridRow, ...]


def make_grid(value: TableValue, layout: Layout = WHOLE) -> Grid:
    """Return a table laid out as the paper does it, each of its values next to ours.

    Raises:
        NothingShownError: a layout leaves out all of its columns.
    """
    artifact = value.artifact
    counted = any(cell.metric == "params" for cell in value.cells)
    headings = [PAPER_PARAMETERS, PARAMETERS] if counted else []
    if counted and not value.printed:
        headings = [OWN_PARAMETERS]
    headings += [PAPER, BEST, LAST] if value.printed else [BEST, LAST]
    headings += [DIFFERENCE] if value.comparable and value.printed else []
    headings = [heading for heading in headings if layout.shows(heading.whose, heading.metric)]
    if not headings:
        raise NothingShownError(f"{artifact.name} has no column of {', '.join(layout.metrics)}")
    known: dict[tuple[str, str], dict[str, Cell]] = defaultdict(dict)
    for cell in value.cells:
        known[cell.row, cell.column][cell.metric] = cell
    trained = {
        cell.row for cell in value.cells if (cell.n or cell.diverged) and cell.metric == "top1"
    }
    bold = set(_best(value))

    def cells_of(row: str, column: str) -> tuple[GridCell, ...]:
        cells = known[row, column]
        return tuple(
            GridCell(_text(cells, one), (row, column, one) in bold, cells.get(one.metric))
            for one in headings
        )

    return Grid(
        title=f"{artifact.label}. {artifact.paper.title}{conditions_of(value)}",
        notes=_notes(value, layout),
        row_heading=artifact.row_heading,
        groups=tuple(artifact.headings.get(column, column) for column in artifact.paper.columns),
        headings=tuple(headings),
        rows=tuple(
            GridRow(row, tuple(cells_of(row, column) for column in artifact.paper.columns))
            for row in artifact.paper.rows
            if row in trained or not layout.trained
        ),
    )


def _text(cells: Mapping[str, Cell], heading: Heading) -> str:
    """Return the text below a heading, from the cells of one network by metric."""
    cell = cells.get(heading.metric)
    if heading.whose == "difference":
        return _difference(cell)
    ours = heading.whose == "ours"
    changes = (
        number(cells.get(metric), form, ours=ours)
        for metric, form in CHANGES.get(heading.metric, ())
    )
    change = next(filter(None, changes), "")
    measured = ours and heading.metric.startswith("top1")
    text = accuracy(cell) if measured else number(cell, ".2f", ours=ours)
    return f"{text} ({change})" if change and change != MISSING else text


def number(cell: Cell | None, form: str, *, ours: bool) -> str:
    """Return a cell's value, ours or the paper's; empty where there is nothing to show."""
    if cell is None:
        return ""
    value = cell.ours_mean if ours else cell.paper
    if ours and (value is None or not math.isfinite(value)):
        return MISSING
    return "" if value is None else signed(value, form)


def signed(number: float, form: str) -> str:
    """Return a number in a form; what is 0 in its decimals has no sign and no arrow."""
    text = f"{number:{CHANGE if form == DROP else form}}"
    if not text.strip("+-.0"):
        return text.lstrip("+-")
    return f"{'↓' if number > 0 else '↑'}{text[1:]}" if form == DROP else text


def accuracy(cell: Cell | None) -> str:
    """Return mean ± standard deviation, with how many of how many runs where that needs saying."""
    if cell is None:
        return ""
    parts = []
    if cell.n:
        spread = "" if cell.ours_std is None else f"±{cell.ours_std:.2f}"
        parts.append(f"{cell.ours_mean:.2f}{spread}")
    elif cell.diverged:
        parts.append("nan")
    else:
        parts.append(MISSING)
    if cell.n + cell.diverged < cell.n_expected or (cell.n and cell.diverged):
        parts.append(f"({cell.n or cell.diverged}/{cell.n_expected})")
    elif cell.n + cell.diverged > 1:
        parts.append(f"({cell.n or cell.diverged})")
    if cell.diverged and cell.n:
        parts.append(f"[{cell.diverged} nan]")
    return " ".join(parts)


def _difference(cell: Cell | None) -> str:
    if cell is None or cell.ours_mean is None or cell.paper is None:
        return ""
    difference = cell.ours_mean - cell.paper
    return signed(difference, CHANGE) if math.isfinite(difference) else MISSING


def _best(value: TableValue) -> Iterator[tuple[str, str, Heading]]:
    """Yield the cells of the best accuracies, the paper's and ours, that the paper sets bold."""
    paper = value.artifact.paper
    lines: list[list[tuple[str, str]]] = []
    if value.artifact.best_of == "row":
        lines = [[(row, column) for column in paper.columns] for row in paper.rows]
    elif value.artifact.best_of == "column":
        lines = [[(row, column) for row in paper.rows] for column in paper.columns]
    for line in lines:
        for name, heading in (("paper", PAPER), ("ours_mean", BEST)):
            values = {at: getattr(value.find(*at, "top1"), name, None) for at in line}
            known = [one for one in values.values() if one is not None and math.isfinite(one)]
            if not known or None in values.values():
                continue  # the best of some is no statement
            for (row, column), one in values.items():
                if one is not None and f"{one:.2f}" == f"{max(known):.2f}":  # as it is printed
                    yield row, column, heading


def conditions_of(value: TableValue) -> str:
    """Return what is not the paper's, in brackets with a space in front; empty if all is."""
    if value.comparable:
        return ""
    datasets = ", ".join(sorted({spec.data.dataset for spec in value.specs.values()}))
    odd = "schedule" if value.own_data else "data"
    return f" ({protocol_name(value.request)} on {datasets}: not the paper's {odd})"


def protocol_name(request: Request) -> str:
    """Return e.g. "paper protocol cut to 2 epochs"."""
    epochs = request.epochs
    cut = f" cut to {epochs} epoch{'s' if epochs > 1 else ''}" if epochs else ""
    return f"{request.protocol.value} protocol{cut}"


def _notes(value: TableValue, layout: Layout) -> tuple[str, ...]:
    theirs = value.printed and layout.columns is Columns.ALL
    ours = (
        f"Ours: {_conditions(value)}, {value.seeds.words}. "
        "best: highest test accuracy over epochs, which is what the authors report; "
        "last: after the last epoch; mean±standard deviation (runs), "
        "or (runs/seeds) where some are missing."
    )
    notes = [ours]
    if theirs and any(cell.metric == "params_delta" for cell in value.cells):
        notes.append("The paper's changes of #P are between rounded figures, ours between exact.")
    if value.artifact.is_figure:
        notes.insert(0, "Test accuracy (%) of the networks that the figure is drawn from.")
    elif theirs and not value.comparable:
        notes.insert(
            0, "The paper's figures are for its own data and schedule: do not compare them."
        )
    notes += [*_elsewhere(value), *differences_in_words(value.mixed)]
    return tuple(notes)


def _elsewhere(value: TableValue) -> Iterator[str]:
    """Yield a sentence with others' test accuracy of the table's networks and data."""
    found: dict[str, list[str]] = defaultdict(list)
    for entry in value.artifact.entries:
        top1 = independent_row(entry.row).get(entry.column)
        if top1 is not None:
            found[entry.row].append(f"{entry.column} {top1:.2f}")
    if found:
        said = [f"{row}: {', '.join(values)}" for row, values in found.items()]
        yield f"Elsewhere, not mixed with ours ({SOURCE}; top-1 in %): {'; '.join(said)}."


def differences_in_words(mixed: Differences) -> Iterator[str]:
    """Yield a sentence on what runs differ in besides network and seed, if they do."""
    parts = [("Runs of one cell", mixed.within), ("Cells", mixed.between)]
    said = [f"{what} differ in {_listed(values)}" for what, values in parts if values]
    if said:
        yield f"{'; '.join(said)}: 'explain' says which."


def _listed(mixed: Mapping[str, Sequence[str]]) -> str:
    parts = []
    for column, values in mixed.items():
        shown = [text[:7] if column in SHORTENED else text for text in values]
        few = len(shown) <= MENTIONED
        text = ", ".join(shown) if few else f"{len(shown)} of them"
        parts.append(f"{NAMES.get(column, column)} ({text})")
    return " and ".join(parts)


def _conditions(value: TableValue) -> str:
    specs = value.specs.values()
    data = dict.fromkeys(
        f"{s.data.dataset} ({s.data.classes} classes, {s.data.image_size}×{s.data.image_size} "
        f"pixels, {_augmentation(s.data.augmentation)})"
        for s in specs
    )
    recipes = dict.fromkeys(
        f"{s.recipe.epochs} epochs of batch {s.recipe.batch_size}" for s in specs
    )
    precisions = dict.fromkeys(s.precision for s in specs)
    return "; ".join(" and ".join(part) for part in (data, recipes, precisions))


def _augmentation(name: str) -> str:
    return "not augmented" if name == "none" else name
