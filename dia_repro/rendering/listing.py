"""Records as a plain table in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from dia_repro.rendering.records import Record


@dataclass(frozen=True)
class Column:
    """A column of a listing.

    Attributes:
        text: how a record's value is written.
        right: whether it is set flush right, as numbers are.
    """

    heading: str
    text: Callable[[Record], str]
    right: bool = False


def listing(columns: Sequence[Column], records: Sequence[Record], title: str = "") -> Table:
    """A table with one line a record."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), title=title or None, title_justify="left")
    for column in columns:
        table.add_column(column.heading, justify="right" if column.right else "left")
    for record in records:
        table.add_row(*(Text(column.text(record)) for column in columns))
    return table


def field(name: str, form: str = "{}") -> Callable[[Record], str]:
    """A record's value in a format; empty where there is none."""

    def text(record: Record) -> str:
        value = record[name]
        return "" if value is None else form.format(value)

    return text
