"""Records as a plain table in the terminal, and values as a curve in a line of text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any, Literal

from rich import box
from rich.table import Table
from rich.text import Text

from dia_repro.rendering.records import Record

BLOCKS, PLAIN = "▁▂▃▄▅▆▇█", "_.-=+*#@"


@dataclass(frozen=True)
class Column:
    """A column of a listing.

    Attributes:
        text: function of a record that returns the column's text.
        right: whether the text is aligned right, as numbers are.
    """

    heading: str
    text: Callable[[Any], str]
    right: bool = False


def listing(columns: Sequence[Column], records: Sequence[Any]) -> Table:
    """Return a table with one line for each record, without columns that are empty throughout."""
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
    """Return the text of a record's value, by a format or a function; None is empty."""
    write = form.format if isinstance(form, str) else form
    return lambda record: "" if record[name] is None else write(record[name])


def sparkline(values: Sequence[float], width: int, *, plain: bool = False) -> str:
    """Return values as blocks from lowest to highest; more than `width` of them are averaged.

    Values that are not finite are left out of averages; a cross stands for those without others.

    Args:
        plain: for terminals that know ASCII only.
    """
    levels, gap = (PLAIN, "x") if plain else (BLOCKS, "×")
    count = min(width, len(values))
    ends = [round(number * len(values) / count) for number in range(count + 1)] if count else []
    parts = [[value for value in values[a:b] if math.isfinite(value)] for a, b in pairwise(ends)]
    means = [fmean(part) if part else None for part in parts]
    known = [mean for mean in means if mean is not None]
    low, span = (min(known), max(known) - min(known)) if known else (0.0, 0.0)

    def block(mean: float | None) -> str:
        if mean is None:
            return gap
        return levels[round((mean - low) / span * (len(levels) - 1))] if span else levels[3]

    return "".join(map(block, means))
