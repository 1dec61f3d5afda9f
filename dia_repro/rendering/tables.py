"""A grid as Markdown, LaTeX or a table in the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dia_repro.rendering.escaping import template
from dia_repro.rendering.grid import Grid

MOST_ABREAST = 8  # columns that fit a page's width without being made much smaller


def to_markdown(grid: Grid) -> str:
    """Return a pipe table; group and column headings are in one line."""
    return template("grid.md.j2").render(grid=grid)


def to_latex(grid: Grid) -> str:
    r"""Return a `table` environment; it needs `\usepackage{booktabs,graphicx}`.

    Groups stand side by side as in the paper, or below each other where that would be too small
    to read. What is wider than the text is made smaller, and nothing larger.
    """
    label, _, title = grid.title.partition(". ")  # LaTeX numbers tables itself
    source = f"{label} of the paper" if label.startswith(("Table ", "Figure ")) else label
    return template("grid.tex.j2").render(
        grid=grid,
        caption=f"{title}, {source}. {' '.join(grid.notes)}",
        abreast=1 + len(grid.groups) * len(grid.headings) <= MOST_ABREAST,
    )


def to_terminal(grid: Grid) -> RenderableType:
    """Return a table that fits 100 columns: a line for each row and group, its notes below."""
    several = len(grid.groups) > 1
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0), show_edge=False)
    table.add_column(grid.row_heading)
    if several:
        table.add_column("")
    for heading in grid.headings:
        table.add_column(heading.text.replace(", ", "\n"), justify="right")
    for row in grid.rows:
        for number, (label, cells) in enumerate(zip(grid.groups, row.groups, strict=True)):
            labels = ["" if number else row.name, *([label] if several else [])]
            texts = [Text(cell.text, style="bold" if cell.bold else "") for cell in cells]
            last = number == len(grid.groups) - 1
            table.add_row(*map(Text, labels), *texts, end_section=several and last)
    title = Text(grid.title, style="bold")
    return Group(title, Text(), table, *(Text(note, style="dim") for note in grid.notes))
