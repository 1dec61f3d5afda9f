"""A cell of a table by what a person types: in either order, in part, in any case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dia_repro.artifacts.table import Entry, TableArtifact
from dia_repro.errors import UsageError


class UnknownCellError(UsageError):
    """No cell of the artifact, or more than one, has these names."""


def find_entry(artifact: TableArtifact, first: str, second: str) -> Entry:
    """Return the network at a row and a column, given in either order.

    Case and punctuation do not matter, and a part of a name will do where only one has it. A
    name that is given whole is meant even if it is part of another.

    Raises:
        UnknownCellError: the message lists the names that there are, or that it could be.
    """
    rows = {row: (row,) for row in artifact.paper.rows}
    columns = {
        column: (column, artifact.headings.get(column, column)) for column in artifact.paper.columns
    }
    for name in (first, second):
        if not _matching(name, rows) and not _matching(name, columns):
            raise UnknownCellError(f"{artifact.name} has no {name!r}: {_names(artifact)}")
    cells = {
        (row, column)
        for row_name, column_name in ((first, second), (second, first))
        for row in _matching(row_name, rows)
        for column in _matching(column_name, columns)
    }
    found = [one for one in artifact.entries if one.shown and (one.row, one.column) in cells]
    if not found:
        raise UnknownCellError(
            f"{artifact.name} has no cell {first!r} {second!r}: {_names(artifact)}"
        )
    if len(found) > 1:
        listed = ", ".join(f"{one.row!r} {one.column!r}" for one in found)
        raise UnknownCellError(f"{first!r} {second!r} could be any of {listed}")
    return found[0]


def find_metric(artifact: TableArtifact, metrics: Iterable[str], name: str) -> str:
    """Return the metric of a cell by its name or a part of it.

    Args:
        metrics: those that the cell has.

    Raises:
        UnknownCellError: none or several have that name; the message lists them.
    """
    known = {metric: (metric,) for metric in metrics}
    found = _matching(name, known)
    if len(found) == 1:
        return found[0]
    problem = f"{name!r} could be any of" if found else f"{artifact.name} has no {name!r} there:"
    raise UnknownCellError(f"{problem} {', '.join(found or known)}")


def _matching(name: str, known: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the names that are meant, of names with their spellings: the whole fit, or parts."""
    wanted = _plain(name)
    spelt = {one: {_plain(spelling) for spelling in spellings} for one, spellings in known.items()}
    whole = [one for one, spellings in spelt.items() if wanted in spellings]
    if whole or not wanted:
        return whole
    return [
        one for one, spellings in spelt.items() if any(wanted in spelling for spelling in spellings)
    ]


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def _names(artifact: TableArtifact) -> str:
    rows, columns = ", ".join(artifact.paper.rows), ", ".join(artifact.paper.columns)
    return f"rows are {rows}; columns are {columns}"
