"""A table as rows of text under grouped headings, for the terminal, Markdown and LaTeX alike."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dia_repro.artifacts import Cell, TableValue

MISSING = "–"


@dataclass(frozen=True)
class Grid:
    """What is drawn.

    Attributes:
        title: one line; says so where protocol or data are not the paper's.
        notes: lines for below the table.
        groups: (heading, number of columns) over all columns but the first.
        columns: a heading for each column, the first one's included.
        rows: one text for each column.
        bold: (row, column) of texts that stand out.
    """

    title: str
    notes: tuple[str, ...]
    groups: tuple[tuple[str, int], ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bold: frozenset[tuple[int, int]]


def make_grid(value: TableValue) -> Grid:
    """Lay a table out as the paper does, each of its figures with ours beside it."""
    headings = ["#P (M), paper", "ours", "top-1 (%), paper", "ours, best", "ours, last"]
    if value.comparable:
        headings.append("Δ")
    rows = []
    for row in value.paper.rows:
        texts = [row]
        for column in value.paper.columns:
            texts += _texts(value, row, column)
        rows.append(tuple(texts))
    return Grid(
        title=_title(value),
        notes=_notes(value),
        groups=tuple(
            (value.headings.get(column, column), len(headings)) for column in value.paper.columns
        ),
        columns=(value.row_heading, *headings * len(value.paper.columns)),
        rows=tuple(rows),
        bold=frozenset(_best(value, headings)),
    )


def _texts(value: TableValue, row: str, column: str) -> list[str]:
    params, delta, best, last = (
        value.find(row, column, metric)
        for metric in ("params", "params_delta", "top1", "top1_last")
    )
    texts = [
        _with_delta(_paper(params), _paper(delta, sign=True)),
        _with_delta(_count(params), _count(delta, sign=True)),
        _paper(best),
        accuracy(best),
        accuracy(last),
    ]
    if value.comparable:
        texts.append(_difference(best))
    return texts


def accuracy(cell: Cell | None) -> str:
    """Mean ± standard deviation, with how many of how many runs where that needs saying."""
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
    if cell.n < cell.n_expected:
        parts.append(f"({cell.n}/{cell.n_expected})")
    elif cell.n > 1:
        parts.append(f"({cell.n})")
    if cell.diverged and cell.n:
        parts.append(f"[{cell.diverged} nan]")
    return " ".join(parts)


def _paper(cell: Cell | None, *, sign: bool = False) -> str:
    if cell is None or cell.paper is None:
        return ""
    return f"{cell.paper:+.2f}" if sign else f"{cell.paper:.2f}"


def _count(cell: Cell | None, *, sign: bool = False) -> str:
    if cell is None:
        return ""
    if cell.ours_mean is None:
        return MISSING
    return f"{cell.ours_mean:+.2f}" if sign else f"{cell.ours_mean:.2f}"


def _with_delta(figure: str, delta: str) -> str:
    return f"{figure} ({delta})" if delta and delta != MISSING else figure


def _difference(cell: Cell | None) -> str:
    if cell is None or cell.ours_mean is None or cell.paper is None:
        return ""
    difference = cell.ours_mean - cell.paper
    return f"{difference:+.2f}" if math.isfinite(difference) else MISSING


def _best(value: TableValue, headings: list[str]) -> list[tuple[int, int]]:
    places = []
    for index, row in enumerate(value.paper.rows):
        for metric, heading in (("paper", "top-1 (%), paper"), ("ours_mean", "ours, best")):
            figures = [
                getattr(value.find(row, column, "top1"), metric, None)
                for column in value.paper.columns
            ]
            known = [f for f in figures if f is not None and math.isfinite(f)]
            if len(known) < 2 and len(figures) > 1 and None in figures:
                continue  # the better of one is no statement
            for number, figure in enumerate(figures):
                if known and figure == max(known):
                    places.append((index, 1 + number * len(headings) + headings.index(heading)))
    return places


def _title(value: TableValue) -> str:
    title = f"Table {value.number}. {value.paper.title}"
    if value.comparable:
        return title
    datasets = ", ".join(sorted({spec.data.dataset for spec in value.specs.values()}))
    return f"{title} ({value.request.protocol.value} protocol on {datasets}: not the paper's data)"


def _notes(value: TableValue) -> tuple[str, ...]:
    spec = next(iter(value.specs.values()))
    data, recipe = spec.data, spec.recipe
    seeds = f"{value.seeds} seeds" if value.seeds > 1 else "1 seed"
    ours = (
        f"Ours: {data.dataset}, {data.classes} classes, {data.image_size}×{data.image_size} "
        f"pixels, {recipe.epochs} epochs, batch {recipe.batch_size}, {spec.precision}, {seeds}. "
        "best: highest test accuracy over epochs, which is what the authors report; "
        "last: after the last epoch; mean±standard deviation (runs), "
        "or (runs/seeds) where some are missing."
    )
    notes = [
        ours,
        "The paper's differences of #P are between rounded figures, ours between exact ones.",
    ]
    if not value.comparable:
        notes.insert(
            0, "The paper's figures are for its own data and schedule: do not compare them."
        )
    return tuple(notes)
