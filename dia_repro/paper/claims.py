"""The paper's claims that results can support or refute, in our words, and what each needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import combinations, product
from typing import Any

from pydantic import TypeAdapter

from dia_repro.paper.facts import PaperTable, figures, read_toml, tables
from dia_repro.paper.independent import tallied

# `Claim.where` of claims that the paper does not make.
CONTROLS_QUESTION = "a control's question, not the paper's"
OWN_CLAIM = "no claim of the paper"


class Kind(StrEnum):
    """Kind of test of a claim.

    The first five are decided by accuracy over seeds, the next three by whether trainings diverge,
    the next four by counts, and the last four by analyses.
    """

    HIGHER = "higher"  # in each comparison the first network is the more accurate one
    EQUAL = "about equal"  # … both are as accurate, within `equal_within`
    GAIN = "larger gain"  # … the first gains more over its baseline than the second over its own
    GAP = "smaller gap"  # … the first is less overfitted: test minus training accuracy, last epoch
    REACHES = "reaches"  # in each cell the network is at least as accurate as the claim says
    DIVERGES = "diverges"  # in each cell the loss of more than half of the trainings is not finite
    TRAINS = "trains"  # in each cell more than half of the trainings end better than guessing
    TRAINS_TOO = "trains too"  # in each comparison whose second network trains the first one does
    FEWER = "fewer parameters"  # in each comparison the first network has fewer
    SAVES = "saves parameters"  # … the first has fewer, by a stated percentage
    SAME_COST = "same cost"  # … both take as many multiply-accumulates
    CONSTANT = "constant"  # attention adds as many parameters in each cell
    DENSER = "denser"  # stage 3's feature integration is denser than the other stages'
    EARLY = "early"  # the last layer of stage 1 draws most from an early one
    # The gradients' mean and variance are larger, in each stage.
    GRADIENTS_INITIAL = "gradients at initialisation"
    GRADIENTS_TRAINED = "gradients at the end"


@dataclass(frozen=True)
class CellKey:
    """A cell of a table, or a network of a figure, by the paper's labels."""

    artifact: str
    row: str
    column: str


@dataclass(frozen=True)
class Comparison:
    """Two networks that a claim compares.

    Attributes:
        label: e.g. "ResNet164: DIANet − SENet".
        first: where the claim is an order, the network that it puts first.
        baselines: the baselines of both, where gains are compared.
    """

    label: str
    first: CellKey
    second: CellKey
    baselines: tuple[CellKey, ...] = ()

    @property
    def cells(self) -> tuple[CellKey, ...]:
        """All networks of the comparison."""
        return (self.first, self.second, *self.baselines)


@dataclass(frozen=True)
class Control:
    """Consequences of the answer to a control's question for claims of the paper.

    Attributes:
        controls: names of these claims.
        tried: what replaces the method.
        if_supported, if_refuted: what is found then, and what follows.
    """

    controls: tuple[str, ...]
    tried: str
    if_supported: tuple[str, str]
    if_refuted: tuple[str, str]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, or a question of a control.

    Attributes:
        name: id, which begins with the artifact's name.
        where: section, and table or figure, of the quotation.
        text: the claim in our words.
        comparisons: for kinds that compare; all have to hold.
        cells: for kinds that do not compare; all count.
        spreads: for kind "about equal", the margin in spreads between seeds; see `equal_within`.
        elsewhere: results of others on the claim, "" if there are none.
        at_least: for kind "reaches", test accuracy in %.
        between: for kind "saves parameters", in %.
        note: remark for the reader, or "".
        control: for a control's question.
    """

    name: str
    artifact: str
    where: str
    text: str
    kind: Kind
    comparisons: tuple[Comparison, ...] = ()
    cells: tuple[CellKey, ...] = ()
    spreads: float = 1.0
    elsewhere: str = ""
    at_least: float = 0.0
    between: tuple[float, float] = (0.0, 100.0)
    note: str = ""
    control: Control | None = None


def equal_within() -> float:
    """Return the largest difference of accuracies that are "about equal", in percentage points.

    It is the largest spread between seeds that the paper prints (Table 1): networks that are
    nearer to each other than that cannot be told apart by training each once.
    """
    return max(cell.value for cell in tables()["table1"].cells if cell.metric == "top1_std")


@cache
def all_claims() -> tuple[Claim, ...]:
    """Return all claims, in the paper's order of tables and figures."""
    return _claims(read_toml("claims.toml")["claims"], {**tables(), **figures()})


@cache
def all_controls() -> tuple[Claim, ...]:
    """Return the questions of the controls, which are not the paper's, by artifact."""
    read = read_toml("controls.toml")
    known = {
        name: PaperTable(name, "", tuple(names["rows"]), tuple(names["columns"]), ())
        for name, names in read["artifacts"].items()
    }
    asked = {"where": CONTROLS_QUESTION}
    return _claims([asked | entry | {"control": entry} for entry in read["claims"]], known)


def _claims(
    entries: Sequence[dict[str, Any]], known: Mapping[str, PaperTable]
) -> tuple[Claim, ...]:
    """Return claims; the keys of an entry that are not attributes say what is compared."""
    claims = []
    for entry in entries:
        table = next(table for name, table in known.items() if entry["name"].startswith(f"{name}-"))
        rows, columns = entry.get("rows", table.rows), entry.get("cells_of", ())
        parts = {
            "artifact": table.artifact,
            "comparisons": tuple(_comparisons(entry, table, rows)),
            "cells": [CellKey(table.artifact, row, column) for row in rows for column in columns],
            "elsewhere": tallied(*entry["elsewhere"]) if "elsewhere" in entry else "",
        }
        claims.append(entry | parts)
    return TypeAdapter(tuple[Claim, ...]).validate_python(claims)


def _comparisons(
    entry: dict[str, Any], table: PaperTable, rows: Sequence[str]
) -> Iterator[Comparison]:
    """Yield the comparisons of a claim, labelled by what their cells have in common."""

    def compare(label: str, *cells: Sequence[str]) -> Comparison:
        first, second, *baselines = (
            CellKey(other[0] if other else table.artifact, row, column)
            for row, column, *other in cells
        )
        return Comparison(entry.get("label", label), first, second, tuple(baselines))

    if "columns" in entry:
        first, second = entry["columns"]
        for row in rows:
            yield compare(f"{row}: {first} − {second}", (row, first), (row, second))
    for column, (first, second) in product(table.columns, entry.get("row_pairs", ())):
        which = f"{column}: " if len(table.columns) > 1 else ""
        yield compare(f"{which}{first} − {second}", (first, column), (second, column))
    for first, second in entry.get("gain_rows", ()):
        cells = [(row, column) for column in entry["gain_columns"] for row in (first, second)]
        yield compare(f"gain of {first} − gain of {second}", *cells)
    if "every_two_of" in entry:
        column = entry["every_two_of"]
        for first, second in combinations(rows, 2):
            yield compare(f"{column}: {first} − {second}", (first, column), (second, column))
    for first, second in entry.get("pairs", ()):
        label = f"{first[1]} {first[0]} − {second[1]} {second[0]}"
        yield compare(label, first, second)
