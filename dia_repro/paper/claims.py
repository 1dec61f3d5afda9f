"""The paper's claims that results can support or refute, in our words, and what each needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import combinations, product
from typing import Any

from dia_repro.paper.facts import PaperTable, figures, read_toml, tables
from dia_repro.paper.independent import tallied

# Where claims stand that the paper does not make.
CONTROLS_QUESTION = "a control's question, not the paper's"
OWN_CLAIM = "no claim of the paper"


class Kind(StrEnum):
    """Kind of test of a claim.

    The first five are decided by accuracy over seeds, the next three by whether trainings diverge,
    the next four by counting networks, and the last four by analyses.
    """

    HIGHER = "higher"  # in each comparison the first network is the more accurate one
    EQUAL = "about equal"  # … both are as accurate, within `equal_within`
    GAIN = "larger gain"  # … the first gains more over its baseline than the second over its own
    GAP = "smaller gap"  # … the first is less overfitted: training minus test accuracy, last epoch
    REACHES = "reaches"  # in each cell the network is at least as accurate as the claim says
    DIVERGES = "diverges"  # in each cell the loss becomes infinite
    TRAINS = "trains"  # in no cell it does
    TRAINS_TOO = "trains too"  # in each comparison whose second network trains the first one does
    FEWER = "fewer parameters"  # in each comparison the first network has fewer
    SAVES = "saves parameters"  # … the first has so many percent fewer
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
        baselines: of both, where gains are compared.
    """

    label: str
    first: CellKey
    second: CellKey
    baselines: tuple[CellKey, CellKey] | None = None

    @property
    def cells(self) -> tuple[CellKey, ...]:
        """All networks that it is about."""
        return (self.first, self.second, *(self.baselines or ()))


@dataclass(frozen=True)
class Control:
    """What the answer to a control's question says of claims of the paper.

    Attributes:
        of: names of these claims.
        tried: in the method's place.
        if_supported, if_refuted: what is found then, and what follows.
    """

    of: tuple[str, ...]
    tried: str
    if_supported: tuple[str, str]
    if_refuted: tuple[str, str]

    def answer(self, *, yes: bool) -> tuple[str, str]:
        """Return what is found, and what follows."""
        return self.if_supported if yes else self.if_refuted


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, or a question of a control.

    Attributes:
        name: its id.
        artifact: the table or figure that it is about.
        where: section, and table or figure, of its quotation.
        text: what it says.
        comparisons: every one has to hold; for kinds that compare.
        cells: every one counts; for kinds that do not compare.
        spreads: for kind "about equal", the margin in spreads between seeds; see `equal_within`.
        elsewhere: what others' results say of it, "" if nothing.
        at_least: for kind "reaches", test accuracy in %.
        between: for kind "saves parameters", in %.
        note: what must be known of it, "" if nothing.
        control: of a control's question; None of a claim.
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
    spreads = [cell.value for cell in tables()["table1"].cells if cell.metric == "top1_std"]
    return max(spreads)


def all_claims() -> tuple[Claim, ...]:
    """Return all claims, in the paper's order of tables and figures."""
    known = {**tables(), **figures()}
    entries = read_toml("claims.toml")["claims"]
    return tuple(_claim(entry, known[entry["name"].partition("-")[0]]) for entry in entries)


def all_controls() -> tuple[Claim, ...]:
    """Return the questions of the controls, which are not the paper's, by artifact."""
    read = read_toml("controls.toml")
    return tuple(
        replace(_claim({"where": CONTROLS_QUESTION, **entry}, table), control=_control(entry))
        for table in (
            PaperTable(name, "", tuple(names["rows"]), tuple(names["columns"]), ())
            for name, names in read["artifacts"].items()
        )
        for entry in read["claims"]
        if entry["name"].startswith(f"{table.artifact}-")
    )


def claim(name: str) -> Claim:
    """Return the claim, or the question of a control, of that id."""
    return next(claim for claim in (*all_claims(), *all_controls()) if claim.name == name)


def _control(entry: dict[str, Any]) -> Control:
    found, refuted = entry["if_supported"], entry["if_refuted"]
    return Control(tuple(entry["controls"]), entry["tried"], tuple(found), tuple(refuted))


def _claim(entry: dict[str, Any], table: PaperTable) -> Claim:
    artifact = table.artifact
    rows = entry.get("rows", table.rows)
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
        spreads=entry.get("spreads", 1.0),
        elsewhere=tallied(*entry["elsewhere"]) if "elsewhere" in entry else "",
        at_least=entry.get("at_least", 0.0),
        between=tuple(entry.get("between", (0.0, 100.0))),
        note=entry.get("note", ""),
    )


def _comparisons(
    entry: dict[str, Any], table: PaperTable, rows: Sequence[str]
) -> Iterator[Comparison]:
    """Yield the comparisons of a claim, labelled by what they have in common."""

    def compare(label: str, first: Sequence[str], second: Sequence[str]) -> Comparison:
        one, two = (
            CellKey(other[0] if other else table.artifact, row, column)
            for row, column, *other in (first, second)
        )
        return Comparison(entry.get("label", label), one, two)

    if "columns" in entry:
        one, two = entry["columns"]
        for row in rows:
            yield compare(f"{row}: {one} − {two}", (row, one), (row, two))
    for column, (one, two) in product(table.columns, entry.get("row_pairs", ())):
        which = f"{column}: " if len(table.columns) > 1 else ""
        yield compare(f"{which}{one} − {two}", (one, column), (two, column))
    for one, two in entry.get("gain_rows", ()):
        column, baseline = entry["gain_columns"]
        gains = compare(f"gain of {one} − gain of {two}", (one, column), (two, column))
        first, second = (CellKey(table.artifact, row, baseline) for row in (one, two))
        yield replace(gains, baselines=(first, second))
    if "every_two_of" in entry:
        column = entry["every_two_of"]
        for one, two in combinations(rows, 2):
            yield compare(f"{column}: {one} − {two}", (one, column), (two, column))
    for one, two in entry.get("pairs", ()):
        yield compare(f"{one[1]} {one[0]} − {two[1]} {two[0]}", one, two)
