"""Records as a plain table in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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


def listing(columns: Sequence[Column], records: Sequence[Record]) -> Table:
    """Return a table with one line a record, without columns that are empty throughout."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    texts = [[column.text(record) for record in records] for column in columns]
    shown = [pair for pair in zip(columns, texts, strict=True) if any(pair[1]) or not records]
    for column, _ in shown:
        justify: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(column.heading, justify=justify, overflow="fold")
    for row in zip(*(text for _, text in shown), strict=True):
        table.add_row(*map(Text, row))
    return table


def plain(*names: str, right: bool = False) -> tuple[Column, ...]:
    """Return columns that are named by their fields."""
    return tuple(Column(name, field(name), right=right) for name in names)


def field(name: str, form: str | Callable[[Any], str] = "{}") -> Callable[[Record], str]:
    """Return how a value of a record is written: by a format, or by a function; None is empty."""
    write = form.format if isinstance(form, str) else form
    return lambda record: "" if record[name] is None else write(record[name])
