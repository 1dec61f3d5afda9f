"""The paper's claims that results can support or refute, in our words, and what each needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from typing import Any

from dia_repro.paper.facts import PaperTable, figures, read_toml, tables


class Kind(StrEnum):
    """Kind of test of a claim.

    The first four are decided by test accuracy over paired seeds, the next two by whether
    trainings blow up, the next three by counting networks, and the last three by analyses.
    """

    HIGHER = "higher"  # in each comparison the first network is the more accurate one
    EQUAL = "about equal"  # … both are as accurate, within `equal_within`
    STEADY = "steady"  # accuracy differs less between the cells than between seeds
    DIVERGES = "diverges"  # in each cell the loss becomes infinite
    TRAINS = "trains"  # in no cell it does
    FEWER = "fewer parameters"  # in each comparison the first network has fewer
    SAME_COST = "same cost"  # … both take as many multiply-accumulates
    CONSTANT = "constant"  # attention adds as many parameters in each cell
    DENSER = "denser"  # stage 3's feature integration is denser than the other stages'
    EARLY = "early"  # the last layer of stage 1 draws most from an early one
    # The gradients' mean and variance are larger, in each stage.
    GRADIENTS_INITIAL = "gradients at initialisation"
    GRADIENTS_TRAINED = "gradients at the end"


@dataclass(frozen=True)
class CellKey:
    """A cell of a table, or a network of a figure, in the paper's words."""

    artifact: str
    row: str
    column: str


@dataclass(frozen=True)
class Comparison:
    """Two networks of which the claim says something.

    Attributes:
        label: of both, for people: "ResNet164: DIANet − SENet".
        first: where the claim is an order, the one that it puts first.
    """

    label: str
    first: CellKey
    second: CellKey


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        name: its id.
        artifact: the table or figure that it is about.
        where: section, and table or figure, of its quotation.
        text: what it says.
        comparisons: every one has to hold; for kinds that compare.
        cells: every one counts; for kinds that do not compare.
        note: what must be known of it, "" if nothing.
    """

    name: str
    artifact: str
    where: str
    text: str
    kind: Kind
    comparisons: tuple[Comparison, ...] = ()
    cells: tuple[CellKey, ...] = ()
    note: str = ""


def equal_within() -> float:
    """Return the largest difference of accuracies that are "about equal", in percentage points.

    It is the largest spread between seeds that the paper prints (Table 1): networks that are
    nearer to each other than that cannot be told apart by training each once.
    """
    spreads = [cell.value for cell in tables()["table1"].cells if cell.metric == "top1_std"]
    return max(spreads)


def all_claims() -> tuple[Claim, ...]:
    """Return all claims, in the paper's order of tables and figures."""
    return tuple(_claim(entry) for entry in read_toml("claims.toml")["claims"])


def claim(name: str) -> Claim:
    """Return the claim of that id."""
    return next(claim for claim in all_claims() if claim.name == name)


def _claim(entry: dict[str, Any]) -> Claim:
    artifact = entry["name"].partition("-")[0]
    table = {**tables(), **figures()}[artifact]
    rows = [row for row in entry.get("rows", table.rows) if row != entry.get("but_row")]
    return Claim(
        name=entry["name"],
        artifact=artifact,
        where=entry["where"],
        text=entry["text"],
        kind=Kind(entry["kind"]),
        comparisons=tuple(_comparisons(entry, table, rows)),
        cells=tuple(
            CellKey(artifact, row, column) for row in rows for column in entry.get("cells_of", ())
        ),
        note=entry.get("note", ""),
    )


def _comparisons(
    entry: dict[str, Any], table: PaperTable, rows: Sequence[str]
) -> Iterator[Comparison]:
    """Yield the comparisons of a claim, labelled by what they have in common."""

    def compare(label: str, first: Sequence[str], second: Sequence[str]) -> Comparison:
        keys = (
            CellKey(other[0] if other else table.artifact, row, column)
            for row, column, *other in (first, second)
        )
        return Comparison(entry.get("label", label), *keys)

    if "columns" in entry:
        one, two = entry["columns"]
        for row in rows:
            yield compare(f"{row}: {one} − {two}", (row, one), (row, two))
    for column, (one, two) in product(table.columns, entry.get("row_pairs", ())):
        which = f"{column}: " if len(table.columns) > 1 else ""
        yield compare(f"{which}{one} − {two}", (one, column), (two, column))
    for one, two in entry.get("pairs", ()):
        yield compare(f"{one[1]} {one[0]} − {two[1]} {two[0]}", one, two)
