"""Typed readers of the TOML files that hold the paper's values."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

UNITS = {
    "params": "M",
    "params_delta": "M",
    "params_drop": "M",
    "top1": "%",
    "top1_last": "%",
    "top1_std": "%",
    "top1_drop": "%",
    "reduction": "",
}


@dataclass(frozen=True)
class PaperCell:
    """A printed value.

    Attributes:
        artifact: `table1`, `table3` … `table9`, `figure5`, `figure6`.
        row: the paper's row label.
        column: the paper's column label (the network, where the table has one column only).
        metric: what the value measures, a key of `UNITS`.
        printed: the value as in the paper, "nan" for a divergence, "" where it prints none.
    """

    artifact: str
    row: str
    column: str
    metric: str
    printed: str

    @property
    def value(self) -> float:
        """The value as a number, in `unit`; nan for a divergence."""
        return float(self.printed)

    @property
    def unit(self) -> str:
        """M (millions), % or ""."""
        return UNITS[self.metric]

    @property
    def decimals(self) -> int:
        """Number of decimals that the paper prints."""
        return len(self.printed.partition(".")[2])


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper: its rows and columns in the paper's order, and its values."""

    artifact: str
    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[PaperCell, ...]

    def find(self, row: str, column: str, metric: str) -> PaperCell | None:
        """Return the value in that cell, or None where the paper prints none."""
        key = (row, column, metric)
        return next((c for c in self.cells if (c.row, c.column, c.metric) == key), None)


@dataclass(frozen=True)
class Hyperparameters:
    """A column of Table 10 or 11.

    Attributes:
        schedule: epochs, counted from 0, at whose start the rate is multiplied by `gamma`.
        extraction: F_ext, `GAP` or `BN+GAP`.
    """

    network: str
    batch_size: int
    epochs: int
    momentum: float
    depth: int
    schedule: tuple[int, ...]
    weight_decay: float
    gamma: float
    lr: float
    extraction: str
    widen_factor: int | None = None
    cardinality: int | None = None
    dropout: float | None = None


@cache
def read_toml(name: str) -> dict[str, Any]:
    """Return the content of a file next to this module."""
    return tomllib.loads(files(__package__).joinpath(name).read_text(encoding="utf-8"))


@cache
def tables() -> dict[str, PaperTable]:
    """Return Tables 1 and 3 to 9 by artifact name, in the paper's order."""
    return {name: _table(name, entry) for name, entry in read_toml("values.toml").items()}


@cache
def figures() -> dict[str, PaperTable]:
    """Return the networks of Figures 5 and 6 by artifact name; the paper prints no accuracies."""
    return {name: _table(name, entry) for name, entry in read_toml("figures.toml").items()}


def _table(artifact: str, entry: dict[str, Any]) -> PaperTable:
    keys = [tuple(key.split(" / ")) for key in entry["columns"]]
    cells = tuple(
        PaperCell(artifact, row, column, metric, printed)
        for row, values in entry["rows"].items()
        for (column, metric), printed in zip(keys, values, strict=True)
    )
    columns = tuple(dict.fromkeys(column for column, _ in keys))
    return PaperTable(artifact, entry["title"], tuple(entry["rows"]), columns, cells)


@cache
def hyperparameters() -> dict[str, Hyperparameters]:
    """Return the columns of Tables 10 and 11 by network name."""
    read = read_toml("hyperparameters.toml")
    return {
        network: Hyperparameters(network, **{**entry, "schedule": tuple(entry["schedule"])})
        for table in ("table10", "table11")
        for network, entry in read[table].items()
    }


@cache
def misprints() -> dict[tuple[str, str, str], str]:
    """Return why no network's count is the printed #P, by artifact, row and column of the cell."""
    entries = read_toml("deviations.toml")["parameters"]
    return {(cell["artifact"], cell["row"], cell["column"]): cell["reason"] for cell in entries}
