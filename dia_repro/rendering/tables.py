"""A grid as Markdown, LaTeX or a table in the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dia_repro.rendering.escaping import latex, markdown
from dia_repro.rendering.grid import Grid

MOST_ABREAST = 8  # columns that fit a page's width without being made much smaller


def to_markdown(grid: Grid) -> str:
    """A pipe table; group and column headings in one line."""
    groups = [label for label, span in grid.groups for _ in range(span)]
    headings = [markdown(grid.columns[0])] + [
        markdown(f"{group} {column}")
        for group, column in zip(groups, grid.columns[1:], strict=True)
    ]
    lines = [_pipe(headings), _pipe([":---"] + ["---:"] * (len(headings) - 1))]
    for number, row in enumerate(grid.rows):
        texts = [
            f"**{markdown(text)}**" if (number, place) in grid.bold else markdown(text)
            for place, text in enumerate(row)
        ]
        lines.append(_pipe(texts))
    notes = "\n\n".join(map(markdown, grid.notes))
    return f"### {markdown(grid.title)}\n\n" + "\n".join(lines) + f"\n\n{notes}\n"


def _pipe(texts: list[str]) -> str:
    return "| " + " | ".join(texts) + " |"


def to_latex(grid: Grid) -> str:
    r"""A `table` environment; needs `\usepackage{booktabs,graphicx}`.

    Groups stand side by side as in the paper, or below each other where that would be too small
    to read. What is wider than the text is made smaller, and nothing larger.
    """
    columns, body = _abreast(grid) if len(grid.columns) <= MOST_ABREAST else _stacked(grid)
    label, _, title = grid.title.partition(". ")  # LaTeX numbers tables itself
    source = f"{label} of the paper" if label.startswith(("Table ", "Figure ")) else label
    lines = [
        r"% needs \usepackage{booktabs,graphicx}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex(f'{title}, {source}. ' + ' '.join(grid.notes))}}}",
        r"\smallskip",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        *body,
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _abreast(grid: Grid) -> tuple[str, list[str]]:
    """Columns and lines of a table with its groups side by side."""
    last = 1
    groups, rules = [""], []
    for label, span in grid.groups:
        groups.append(rf"\multicolumn{{{span}}}{{c}}{{{latex(label)}}}")
        rules.append(rf"\cmidrule(lr){{{last + 1}-{last + span}}}")
        last += span
    lines = [
        _latex_row(groups),
        " ".join(rules),
        _latex_row(map(latex, grid.columns)),
        r"\midrule",
    ]
    lines += [
        _latex_row(_latex_cell(grid, number, place) for place in range(last))
        for number in range(len(grid.rows))
    ]
    return f"l{'r' * (last - 1)}", lines


def _stacked(grid: Grid) -> tuple[str, list[str]]:
    """Columns and lines of a table with a line for each row and group."""
    span = grid.groups[0][1]
    headings = [grid.columns[0], "", *grid.columns[1 : 1 + span]]
    lines = [_latex_row(map(latex, headings)), r"\midrule"]
    for number in range(len(grid.rows)):
        lines += [r"\addlinespace"] if number else []
        for group, (label, _) in enumerate(grid.groups):
            places = range(1 + group * span, 1 + (group + 1) * span)
            row = "" if group else _latex_cell(grid, number, 0)
            figures = [_latex_cell(grid, number, place) for place in places]
            lines.append(_latex_row([row, latex(label), *figures]))
    return f"ll{'r' * span}", lines


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_cell(grid: Grid, row: int, column: int) -> str:
    text = latex(grid.rows[row][column])
    return rf"\textbf{{{text}}}" if (row, column) in grid.bold else text


def to_terminal(grid: Grid) -> RenderableType:
    """A table that fits 100 columns: a line for each row and group, its notes below."""
    span = grid.groups[0][1]
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 0),
        show_edge=False,
    )
    several = len(grid.groups) > 1
    table.add_column(grid.columns[0])
    if several:
        table.add_column("")
    for heading in grid.columns[1 : 1 + span]:
        table.add_column(heading.replace(", ", "\n"), justify="right")
    for number, row in enumerate(grid.rows):
        for group, (label, _) in enumerate(grid.groups):
            places = range(1 + group * span, 1 + (group + 1) * span)
            figures = [
                Text(row[place], style="bold" if (number, place) in grid.bold else "")
                for place in places
            ]
            labels = [Text("" if group else row[0]), Text(label)] if several else [Text(row[0])]
            last_of_row = several and group == len(grid.groups) - 1 and number < len(grid.rows) - 1
            table.add_row(*labels, *figures, end_section=last_of_row)
    title = Text(grid.title, style="bold")
    return Group(title, Text(), table, *(Text(note, style="dim") for note in grid.notes))
