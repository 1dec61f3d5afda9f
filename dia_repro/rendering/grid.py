"""A table as rows of text under grouped headings, for every format alike."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dia_repro.artifacts import Cell, TableValue
from dia_repro.artifacts.metrics import has_result
from dia_repro.experiments.protocols import Request
from dia_repro.experiments.spec import DataSpec, Spec
from dia_repro.paper.independent import SOURCE, independent_row, remark_on
from dia_repro.rendering.layout import WHOLE, Columns, Layout, NothingShownError
from dia_repro.results.queries import Differences

MISSING = "–"
SPREAD = "mean±standard deviation (runs), or (runs/seeds) where some are missing"
MENTIONED = 3
# Columns of provenance, for people.
NAMES = {
    "git_commit": "commit",
    "git_clean": "checkout",
    "package": "dia-repro",
    "code_sha256": "code",
    "data_sha256": "data",
    "step": "execution mode",
    "capability": "CPU instructions",
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
        whose: owner of the column's values.
        metric: metric of the cells that the values are taken from.
    """

    text: str
    whose: Literal["paper", "ours", "difference"]
    metric: str


PAPER_PARAMETERS = Heading("#P (M), paper", "paper", "params")
PARAMETERS = Heading("ours", "ours", "params")
OWN_PARAMETERS = Heading("#P (M)", "ours", "params")  # where the paper prints none
PAPER = Heading("top-1 (%), paper", "paper", "top1")
BEST, LAST = Heading("ours, best", "ours", "top1"), Heading("ours, last", "ours", "top1_last")
CHOSEN = Heading("ours", "ours", "top1")  # of the one epoch that is tested
DIFFERENCE = Heading("Δ", "difference", "top1")
# Headings of a table without the paper's columns, which name the metric otherwise.
ALONE = {
    PARAMETERS: OWN_PARAMETERS,
    BEST: Heading("top-1 (%), best", "ours", "top1"),
    LAST: Heading("top-1 (%), last", "ours", "top1_last"),
    CHOSEN: Heading("top-1 (%)", "ours", "top1"),
}


@dataclass(frozen=True)
class GridCell:
    """A text of a grid; `cell` is the value behind it, None where the table has none."""

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
        title: one line, which says where protocol or data are not the paper's.
        notes: lines below the table.
        row_heading: heading of the rows' names.
        groups: heading of each group of columns.
        headings: headings of the columns of each group.
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
    artifact, paper = value.artifact, value.artifact.paper
    headings = tuple(h for h in _headings(value) if layout.shows(h.whose, h.metric))
    if not headings:
        raise NothingShownError(f"{artifact.name} has no column of {', '.join(layout.metrics)}")
    known: dict[tuple[str, str], dict[str, Cell]] = defaultdict(dict)
    for cell in value.cells:
        known[cell.row, cell.column][cell.metric] = cell
    alone = layout.columns is Columns.OURS
    trained = {c.row for c in value.cells if c.metric == "top1" and (c.n or c.diverged)}
    bold = set(_best(value))

    def cells_of(row: str, column: str) -> tuple[GridCell, ...]:
        cells = known[row, column]
        return tuple(
            GridCell(
                _text(cells, heading), (row, column, heading) in bold, cells.get(heading.metric)
            )
            for heading in headings
        )

    return Grid(
        title=f"{artifact.label}. {paper.title}{conditions_of(value)}",
        notes=tuple(_notes(value, layout)),
        row_heading=artifact.row_heading,
        groups=tuple(artifact.headings.get(column, column) for column in paper.columns),
        headings=tuple(ALONE.get(h, h) for h in headings) if alone else headings,
        rows=tuple(
            GridRow(row, tuple(cells_of(row, column) for column in paper.columns))
            for row in paper.rows
            if row in trained or not layout.trained
        ),
    )


def _headings(value: TableValue) -> list[Heading]:
    counted = any(cell.metric == "params" for cell in value.cells)
    ours = [CHOSEN] if value.validated else [BEST, LAST]
    if not value.printed:
        return [OWN_PARAMETERS, *ours] if counted else ours
    headings = [PAPER_PARAMETERS, PARAMETERS] if counted else []
    headings += [PAPER, *ours]
    return [*headings, DIFFERENCE] if value.comparable else headings


def _text(cells: Mapping[str, Cell], heading: Heading) -> str:
    """Return the text below a heading, from the cells of one network by metric."""
    cell = cells.get(heading.metric)
    if heading.whose == "difference":
        return _difference(cell)
    ours = heading.whose == "ours"
    measured = ours and heading.metric.startswith("top1")
    changes = (
        number(other, form, ours=ours) + (_over(other, cell) if measured else "")
        for metric, form in CHANGES.get(heading.metric, ())
        if (other := cells.get(metric)) is not None
    )
    change = next(filter(None, changes), "")
    text = accuracy(cell) if measured else number(cell, ".2f", ours=ours)
    return f"{text} ({change})" if change and change != MISSING else text


def _over(change: Cell, cell: Cell | None) -> str:
    """Return over how many seeds a change is, where it is over other ones than the accuracy."""
    known = cell is not None and 0 < change.n != cell.n
    return f" over {change.n}/{change.n_expected}" if known else ""


def number(cell: Cell | None, form: str, *, ours: bool) -> str:
    """Return a cell's value, ours or the paper's; empty where there is nothing to show."""
    if cell is None:
        return ""
    value = cell.ours_mean if ours else cell.paper
    if ours and (value is None or not math.isfinite(value)):
        return MISSING
    return "" if value is None else signed(value, form)


def signed(number: float, form: str) -> str:
    """Return a number in a form; a number that rounds to 0 has no sign and no arrow."""
    text = f"{number:{CHANGE if form == DROP else form}}"
    if not text.strip("+-.0"):
        return text.lstrip("+-")
    return f"{'↓' if number > 0 else '↑'}{text[1:]}" if form == DROP else text


def accuracy(cell: Cell | None) -> str:
    """Return mean ± standard deviation, with how many of how many runs where that needs saying."""
    if cell is None:
        return ""
    text = "nan" if cell.diverged else MISSING
    if cell.n:
        text = f"{cell.ours_mean:.2f}"
        text += "" if cell.ours_std is None else f"±{cell.ours_std:.2f}"
    shown, done = cell.n or cell.diverged, cell.n + cell.diverged
    if done < cell.n_expected or (cell.n and cell.diverged):
        text += f" ({shown}/{cell.n_expected})"
    elif done > 1:
        text += f" ({shown})"
    return f"{text} [{cell.diverged} nan]" if cell.diverged and cell.n else text


def _difference(cell: Cell | None) -> str:
    if cell is None or cell.ours_mean is None or cell.paper is None:
        return ""
    difference = cell.ours_mean - cell.paper
    return signed(difference, CHANGE) if math.isfinite(difference) else MISSING


def _best(value: TableValue) -> Iterator[tuple[str, str, Heading]]:
    """Yield the cells of the best accuracies, the paper's and ours, that the paper sets bold.

    A cell with diverged runs is never the best: its mean is over its other seeds only.
    """
    paper = value.artifact.paper
    lines: list[list[tuple[str, str]]] = []
    if value.artifact.best_of == "row":
        lines = [[(row, column) for column in paper.columns] for row in paper.rows]
    elif value.artifact.best_of == "column":
        lines = [[(row, column) for row in paper.rows] for column in paper.columns]
    for line in lines:
        cells = [cell for at in line if (cell := value.find(*at, "top1"))]
        theirs = [cell.paper for cell in cells]
        ours = [math.nan if cell.diverged else cell.ours_mean for cell in cells]
        own = CHOSEN if value.validated else BEST
        for heading, values in ((PAPER, theirs), (own, ours)):
            known = [top1 for top1 in values if top1 is not None and math.isfinite(top1)]
            if not known or None in values or len(cells) < len(line):
                continue  # the best of some is no statement
            for cell, top1 in zip(cells, values, strict=True):
                if f"{top1:.2f}" == f"{max(known):.2f}":  # as it is printed
                    yield cell.row, cell.column, heading


def conditions_of(value: TableValue) -> str:
    """Return in brackets what conditions are not the paper's, and whose runs are not ours."""
    whose = f" (runs of {value.origin})" if value.origin else ""
    if value.comparable:
        return whose
    data = (spec.data for spec in value.specs.values())
    datasets = ", ".join(sorted({f"{_sized(known)}{held_out(known)}" for known in data}))
    odd = "schedule" if value.own_data else "data"
    return f" ({protocol_name(value.request)} on {datasets}: not the paper's {odd}){whose}"


def _sized(data: DataSpec) -> str:
    """Return the data's name, with the size of a user's own images, which they can choose."""
    size = f" at {data.image_size}×{data.image_size}" if data.content_hash is not None else ""
    return f"{data.dataset}{size}"


def held_out(data: DataSpec) -> str:
    """Return ", 10% held out" of data of which some are held out for validation."""
    return "" if data.validation is None else f", {data.validation}% held out"


def protocol_name(request: Request) -> str:
    """Return e.g. "paper protocol over 2 epochs at rate 0.05"."""
    epochs = request.epochs
    length = f" over {epochs} epoch{'s' if epochs > 1 else ''}" if epochs else ""
    rate = "" if request.rate is None else f" at rate {request.rate:g}"
    return f"{request.protocol.value} protocol{length}{rate}"


def _notes(value: TableValue, layout: Layout) -> Iterator[str]:
    theirs = value.printed and layout.columns is Columns.ALL
    if value.artifact.is_figure:
        yield "Test accuracy (%) of the networks that the figure is drawn from."
    elif theirs and not value.comparable:
        yield "The paper's values are for its own data and schedule: do not compare them."
    parts = zip(*map(_conditions, value.specs.values()), strict=True)
    conditions = "; ".join(" and ".join(dict.fromkeys(part)) for part in parts)
    whose = f"Runs of {value.origin}" if value.origin else "Ours"
    said = "; ".join([*_accuracies(value, layout), SPREAD])
    yield f"{whose}: {conditions}, {value.seeds.words}. {said}."
    if theirs and any(cell.metric == "params_delta" for cell in value.cells):
        yield "The paper's changes of #P are between rounded values, ours between exact ones."
    elsewhere: dict[str, list[str]] = defaultdict(list)
    for entry in value.artifact.entries:
        top1 = independent_row(entry.row).get(entry.column)
        if top1 is not None:
            elsewhere[entry.row].append(f"{entry.column} {top1:.2f}")
    if elsewhere:
        said = "; ".join(
            f"{row}: {', '.join(values)}{f' ({remark})' if (remark := remark_on(row)) else ''}"
            for row, values in elsewhere.items()
        )
        yield f"Elsewhere, not mixed with ours ({SOURCE}; top-1 in %): {said}."
    for origin, cells in value.others.items():
        by_row: dict[str, list[str]] = defaultdict(list)
        for cell in cells:
            if cell.metric == "top1" and has_result(cell):
                by_row[cell.row].append(f"{cell.column} {accuracy(cell)}")
        said = "; ".join(f"{row}: {', '.join(values)}" for row, values in by_row.items())
        chosen = value.request.select.accuracy
        data = ", but on other data" if origin in value.on_other_data else ""
        about = f"same experiments{data}; {chosen}, %"
        yield f"Runs of {origin}, not mixed with ours ({about}): {said}."
    yield from differences_in_words(value.mixed)


def _accuracies(value: TableValue, layout: Layout) -> Iterator[str]:
    """Yield what the accuracies are that a table shows."""
    chosen = value.request.select.accuracy
    if value.validated:
        yield chosen
        return
    authors = value.printed and layout.columns is Columns.ALL
    if layout.shows("ours", "top1"):
        yield f"best: {chosen}{', which is what the authors report' if authors else ''}"
    if layout.shows("ours", "top1_last"):
        yield "last: after the last epoch"


def differences_in_words(mixed: Differences) -> Iterator[str]:
    """Yield a sentence on the differences between runs other than network and seed, if any."""
    parts = [("Runs of one cell", mixed.within), ("Cells", mixed.between)]
    said = [f"{what} differ in {_listed(values)}" for what, values in parts if values]
    if said:
        yield f"{'; '.join(said)}: 'explain' says which."


def _listed(mixed: Mapping[str, Sequence[str]]) -> str:
    parts = []
    for column, values in mixed.items():
        shown = [text[:7] if column in SHORTENED else text for text in values]
        text = ", ".join(shown) if len(shown) <= MENTIONED else f"{len(shown)} of them"
        parts.append(f"{NAMES.get(column, column)} ({text})")
    return " and ".join(parts)


def _conditions(spec: Spec) -> tuple[str, str, str]:
    """Return data, schedule and precision in words."""
    data, size, recipe = spec.data, spec.data.image_size, spec.recipe
    augmentation = "not augmented" if data.augmentation == "none" else data.augmentation
    treated = f"{augmentation}{held_out(data)}"
    return (
        f"{data.dataset} ({data.classes} classes, {size}×{size} pixels, {treated})",
        f"{recipe.epochs} epoch{'s' if recipe.epochs > 1 else ''} of batch {recipe.batch_size}",
        spec.precision,
    )
