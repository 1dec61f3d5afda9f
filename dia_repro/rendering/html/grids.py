"""A grid as a table of a page: for each text whose it is, its state, and what it sorts by."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dia_repro.artifacts import TableValue
from dia_repro.rendering.grid import OURS_HEADING, PAPER_HEADING, Grid

# What stands under each of a grid's headings: whose figure, and of which metric.
MEANINGS = {
    "#P (M), paper": ("paper", "params"),
    "ours": ("ours", "params"),
    PAPER_HEADING: ("paper", "top1"),
    OURS_HEADING: ("ours", "top1"),
    "ours, last": ("ours", "top1_last"),
    "Δ": ("difference", "top1"),
}
MARKS = {"diverged": "✕", "missing": "○", "partial": "◐"}


@dataclass(frozen=True)
class Slot:
    """One text of a table.

    Attributes:
        whose: paper, ours or difference.
        state: of ours: complete, partial, diverged or missing; else empty.
        mark: what shows an unusual state without colour.
        key: the number that it sorts by; empty sorts last.
        cell: key of the network behind it; empty where there is none.
        opens: whether it is the one of its network that the keyboard reaches.
    """

    text: str
    whose: str
    state: str
    mark: str
    key: str
    cell: str
    opens: bool
    bold: bool


@dataclass(frozen=True)
class Heading:
    """Of a column: what it is, in one or two lines, and whose."""

    text: str
    below: str
    whose: str


@dataclass(frozen=True)
class Line:
    """A row: its name, and a slot for each column."""

    name: str
    slots: tuple[Slot, ...]


def headings(grid: Grid) -> list[Heading]:
    """Of all columns but the first."""
    found = []
    for column in grid.columns[1:]:
        text, _, below = column.partition(", ")
        found.append(Heading(text, below, MEANINGS[column][0]))
    return found


def lines(grid: Grid, value: TableValue) -> list[Line]:
    """A table's rows."""
    return [
        Line(texts[0], tuple(_slots(grid, value, number, row)))
        for number, (row, texts) in enumerate(zip(value.paper.rows, grid.rows, strict=True))
    ]


def _slots(grid: Grid, value: TableValue, number: int, row: str) -> Iterator[Slot]:
    span = grid.groups[0][1]
    for at, text in enumerate(grid.rows[number][1:], start=1):
        column = value.paper.columns[(at - 1) // span]
        whose, metric = MEANINGS[grid.columns[at]]
        cell = value.find(row, column, metric)
        state = cell.status if cell and whose == "ours" else ""
        yield Slot(
            text=text,
            whose=whose,
            state=state,
            mark=MARKS.get(state, ""),
            key=sort_key(text),
            cell=cell_key(value, row, column) if cell and whose != "paper" else "",
            opens=grid.columns[at] == OURS_HEADING and cell is not None,
            bold=(number, at) in grid.bold,
        )


def sort_key(text: str) -> str:
    """The number that a text begins with; empty where it begins with none."""
    number = re.match(r"↓?([-+]?\d+(?:\.\d+)?)", text)
    return number[1] if number else ""


def cell_key(value: TableValue, row: str, column: str) -> str:
    """A short name of a cell of a table, that can be part of an address."""
    paper = value.paper
    return f"{paper.artifact}-{paper.rows.index(row) + 1}-{paper.columns.index(column) + 1}"
