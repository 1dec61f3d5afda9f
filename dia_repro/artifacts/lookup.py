"""Search for a cell of a table by what a person types: in either order, in part, in any case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dia_repro.artifacts.table import Entry, TableArtifact
from dia_repro.errors import UsageError


class UnknownCellError(UsageError):
    """No cell of the artifact, or more than one, has these names."""


def find_entry(artifact: TableArtifact, first: str, second: str) -> Entry:
    """Return the network at a row and a column, given in either order.

    Case and punctuation do not matter, and a part of a name is enough where only one name has it.
    A whole name is preferred to names that it is part of.

    Raises:
        UnknownCellError: the message lists the names that there are, or that it could be.
    """
    rows = {row: [row] for row in artifact.paper.rows}
    columns = {name: [name, artifact.headings.get(name, name)] for name in artifact.paper.columns}
    names = f"rows are {', '.join(rows)}; columns are {', '.join(columns)}"
    for name in (first, second):
        if not _matching(name, rows) and not _matching(name, columns):
            raise UnknownCellError(f"{artifact.name} has no {name!r}: {names}")
    positions = {
        (row, column)
        for row_name, column_name in ((first, second), (second, first))
        for row in _matching(row_name, rows)
        for column in _matching(column_name, columns)
    }
    found = [entry for entry in artifact.entries if entry.shown and entry.position in positions]
    if not found:
        raise UnknownCellError(f"{artifact.name} has no cell {first!r} {second!r}: {names}")
    if len(found) > 1:
        listed = ", ".join(f"{entry.row!r} {entry.column!r}" for entry in found)
        raise UnknownCellError(f"{first!r} {second!r} could be any of {listed}")
    return found[0]


def find_metric(artifact: TableArtifact, metrics: Iterable[str], name: str) -> str:
    """Return the metric of a cell by its name or a part of it.

    Args:
        metrics: those that the cell has.

    Raises:
        UnknownCellError: none or several have that name; the message lists them.
    """
    known = {metric: [metric] for metric in metrics}
    found = _matching(name, known)
    if len(found) == 1:
        return found[0]
    problem = f"{name!r} could be any of" if found else f"{artifact.name} has no {name!r} there:"
    raise UnknownCellError(f"{problem} {', '.join(found or known)}")


def _matching(typed: str, known: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the names with a spelling that is typed as a whole, or else in part."""
    wanted = _plain(typed)
    spelt = {name: [*map(_plain, spellings)] for name, spellings in known.items()}
    whole = [name for name, spellings in spelt.items() if wanted in spellings]
    if whole or not wanted:
        return whole
    return [name for name, spellings in spelt.items() if any(wanted in text for text in spellings)]


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))
