"""A table as rows of text under grouped headings, for the terminal, Markdown and LaTeX alike."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dia_repro.artifacts import Cell, TableValue
from dia_repro.experiments.protocols import Request

MISSING = "–"
MENTIONED = 3
# Columns of provenance, for people.
NAMES = {
    "git_commit": "commit",
    "git_clean": "checkout",
    "package": "dia-repro",
    "data_sha256": "data",
    "step": "execution mode",
}
DROP = "drop"  # a fall is a positive figure, written with an arrow
PAPER_HEADING, OURS_HEADING = "top-1 (%), paper", "ours, best"


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
    counted = any(cell.metric == "params" for cell in value.cells)
    headings = ["#P (M), paper", "ours"] if counted else []
    if counted and not value.printed:
        headings = ["#P (M)"]
    headings += [PAPER_HEADING] if value.printed else []
    headings += [OURS_HEADING, "ours, last"]
    headings += ["Δ"] if value.comparable and value.printed else []
    rows = []
    for row in value.paper.rows:
        texts = [row]
        for column in value.paper.columns:
            if counted:
                texts += _parameter_texts(value, row, column)
            texts += _accuracy_texts(value, row, column)
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


def _parameter_texts(value: TableValue, row: str, column: str) -> list[str]:
    params, delta, drop = (
        value.find(row, column, metric) for metric in ("params", "params_delta", "params_drop")
    )
    ours = _with_change(_count(params), _count(delta, "+.2f") or _count(drop, DROP))
    if not value.printed:
        return [ours]
    return [_with_change(_paper(params), _paper(delta, "+.2f") or _paper(drop, DROP)), ours]


def _accuracy_texts(value: TableValue, row: str, column: str) -> list[str]:
    best, drop, last = (
        value.find(row, column, metric) for metric in ("top1", "top1_drop", "top1_last")
    )
    texts = [_with_change(_paper(best), _paper(drop, DROP))] if value.printed else []
    texts += [_with_change(accuracy(best), _count(drop, DROP)), accuracy(last)]
    return [*texts, _difference(best)] if value.comparable and value.printed else texts


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
    if cell.n + cell.diverged < cell.n_expected or (cell.n and cell.diverged):
        parts.append(f"({cell.n or cell.diverged}/{cell.n_expected})")
    elif cell.n + cell.diverged > 1:
        parts.append(f"({cell.n or cell.diverged})")
    if cell.diverged and cell.n:
        parts.append(f"[{cell.diverged} nan]")
    return " ".join(parts)


def _paper(cell: Cell | None, form: str = ".2f") -> str:
    return "" if cell is None or cell.paper is None else _format(cell.paper, form)


def _count(cell: Cell | None, form: str = ".2f") -> str:
    if cell is None:
        return ""
    if cell.ours_mean is None or not math.isfinite(cell.ours_mean):
        return MISSING
    return _format(cell.ours_mean, form)


def _format(figure: float, form: str) -> str:
    if form == DROP:
        return f"{'↓' if figure >= 0 else '↑'}{abs(figure):.2f}"
    return f"{figure:{form}}"


def _with_change(figure: str, change: str) -> str:
    return f"{figure} ({change})" if change and change != MISSING else figure


def _difference(cell: Cell | None) -> str:
    if cell is None or cell.ours_mean is None or cell.paper is None:
        return ""
    difference = cell.ours_mean - cell.paper
    return f"{difference:+.2f}" if math.isfinite(difference) else MISSING


def _best(value: TableValue, headings: list[str]) -> Iterator[tuple[int, int]]:
    """Places of the best accuracies, the paper's and ours, where the paper sets them in bold."""
    rows, columns = range(len(value.paper.rows)), range(len(value.paper.columns))
    lines: list[list[tuple[int, int]]] = []
    if value.best_of == "row":
        lines = [[(row, column) for column in columns] for row in rows]
    elif value.best_of == "column":
        lines = [[(row, column) for row in rows] for column in columns]
    for line in lines:
        for name, heading in (("paper", PAPER_HEADING), ("ours_mean", OURS_HEADING)):
            if heading not in headings:
                continue
            figures = {place: _accuracy_figure(value, place, name) for place in line}
            known = [f for f in figures.values() if f is not None and math.isfinite(f)]
            if not known or None in figures.values():
                continue  # the best of some is no statement
            for (row, column), figure in figures.items():
                if figure is not None and math.isclose(figure, max(known)):
                    yield row, 1 + column * len(headings) + headings.index(heading)


def _accuracy_figure(value: TableValue, place: tuple[int, int], name: str) -> float | None:
    row, column = value.paper.rows[place[0]], value.paper.columns[place[1]]
    figure: float | None = getattr(value.find(row, column, "top1"), name, None)
    return figure


def _title(value: TableValue) -> str:
    return f"{value.label}. {value.paper.title}{circumstances(value)}"


def circumstances(value: TableValue) -> str:
    """What is not the paper's, in brackets with a space in front; nothing if all is."""
    if value.comparable:
        return ""
    datasets = ", ".join(sorted({spec.data.dataset for spec in value.specs.values()}))
    odd = "schedule" if value.own_data else "data"
    return f" ({protocol_name(value.request)} on {datasets}: not the paper's {odd})"


def protocol_name(request: Request) -> str:
    """E.g. "paper protocol cut to 2 epochs"."""
    epochs = request.epochs
    cut = f" cut to {epochs} epoch{'s' if epochs > 1 else ''}" if epochs else ""
    return f"{request.protocol.value} protocol{cut}"


def _notes(value: TableValue) -> tuple[str, ...]:
    seeds = f"{value.seeds} seeds" if value.seeds > 1 else "1 seed"
    ours = (
        f"Ours: {_conditions(value)}, {seeds}. "
        "best: highest test accuracy over epochs, which is what the authors report; "
        "last: after the last epoch; mean±standard deviation (runs), "
        "or (runs/seeds) where some are missing."
    )
    notes = [ours]
    if any(cell.metric == "params_delta" for cell in value.cells):
        notes.append("The paper's changes of #P are between rounded figures, ours between exact.")
    if value.is_figure:
        notes.insert(0, "Test accuracy (%) of the networks that the figure is drawn from.")
    elif value.printed and not value.comparable:
        notes.insert(
            0, "The paper's figures are for its own data and schedule: do not compare them."
        )
    notes += _mixed(value)
    return tuple(notes)


def _mixed(value: TableValue) -> Iterator[str]:
    """Say once a table what its runs differ in besides network and seed."""
    parts = [("Runs of one cell", value.mixed.within), ("Cells", value.mixed.between)]
    said = [f"{what} differ in {_listed(values)}" for what, values in parts if values]
    if said:
        yield f"{'; '.join(said)}: 'explain' says which."


def _listed(mixed: Mapping[str, Sequence[str]]) -> str:
    parts = []
    for column, values in mixed.items():
        shown = [text[:7] if column in ("git_commit", "data_sha256") else text for text in values]
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
