"""The paper's claims that results can support or refute, in our words, and what each needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from dia_repro.paper.facts import tables


class Kind(StrEnum):
    """How a claim is tested.

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
    """How near two accuracies are "about equal", in percentage points.

    It is the largest spread between seeds that the paper prints (Table 1): networks that are
    nearer to each other than that cannot be told apart by training each once.
    """
    spreads = [cell.value for cell in tables()["table1"].cells if cell.metric == "top1_std"]
    return max(spreads)


def _by_row(artifact: str, first: str, second: str, *rows: str) -> tuple[Comparison, ...]:
    """Two columns against each other, in each row or in those given."""
    return tuple(
        Comparison(
            f"{row}: {first} − {second}",
            CellKey(artifact, row, first),
            CellKey(artifact, row, second),
        )
        for row in rows or tables()[artifact].rows
    )


def _by_column(artifact: str, *pairs: tuple[str, str]) -> tuple[Comparison, ...]:
    """Two rows against each other, in each column."""
    columns = tables()[artifact].columns
    return tuple(
        Comparison(
            f"{column}: {first} − {second}" if len(columns) > 1 else f"{first} − {second}",
            CellKey(artifact, first, column),
            CellKey(artifact, second, column),
        )
        for column in columns
        for first, second in pairs
    )


def _cells(artifact: str, columns: tuple[str, ...], *rows: str) -> tuple[CellKey, ...]:
    return tuple(
        CellKey(artifact, row, column)
        for row in rows or tables()[artifact].rows
        for column in columns
    )


def _between(artifact: str, column: str, row: str, others: dict[str, str]) -> Iterator[Comparison]:
    """One network against some in other rows: {row: column}."""
    for other_row, other_column in others.items():
        yield Comparison(
            f"{column} {row} − {other_column} {other_row}",
            CellKey(artifact, row, column),
            CellKey(artifact, other_row, other_column),
        )


def _table1() -> Iterator[Claim]:
    where = "Our Framework; Table 1"
    pair = _by_column("table1", ("DIA-SE", "SE"))
    text = "One SE module shared by a stage (DIA-SE) is more accurate than one in each block"
    yield Claim("table1-accuracy", "table1", where, text, Kind.HIGHER, pair)
    text = "DIA-SE has fewer parameters than SE"
    yield Claim("table1-parameters", "table1", where, text, Kind.FEWER, pair)
    text = "DIA-SE takes as much computation as SE"
    yield Claim("table1-cost", "table1", where, text, Kind.SAME_COST, pair)


def _table3() -> Iterator[Claim]:
    where = "Experiments, Image Classification; Table 3"
    for column, other in (("original", "the original"), ("SENet", "SENet")):
        text = f"DIANet is more accurate than {other} for every network and data set"
        rows = _by_row("table3", "DIANet", column)
        yield Claim(f"table3-{column.lower()}", "table3", where, text, Kind.HIGHER, rows)
    against = "WRN52-4 CIFAR10"
    yield Claim(
        "table3-senet-original",
        "table3",
        "Table 3",
        "SENet is more accurate than the original, in eleven of Table 3's twelve rows",
        Kind.HIGHER,
        _by_row(
            "table3", "SENet", "original", *(r for r in tables()["table3"].rows if r != against)
        ),
        note=f"in the row left out, {against}, the paper prints the original 0.01 ahead",
    )


def _table4() -> Iterator[Claim]:
    where = "Ablation Study, Reduction ratio; Table 4"
    rows = tables()["table4"].rows
    text = "DIANet164's accuracy is not sensitive to the reduction ratio r"
    cells = _cells("table4", ("DIANet164",))
    yield Claim("table4-ratio", "table4", where, text, Kind.STEADY, cells=cells)
    text = "DIANet164 has fewer parameters the larger r is"
    order = _by_column("table4", *zip(rows[1:], rows[:-1], strict=True))
    yield Claim("table4-parameters", "table4", where, text, Kind.FEWER, order)
    comparison = Comparison(
        "DIANet164 r=16 − original",
        CellKey("table4", "r=16", "DIANet164"),
        CellKey("table3", "ResNet164 CIFAR100", "original"),
    )
    text = "Even with r = 16 DIANet164 is more accurate than ResNet164"
    yield Claim("table4-light", "table4", where, text, Kind.HIGHER, (comparison,))


def _table5() -> Iterator[Claim]:
    where = "Ablation Study, The depth of the neural network; Table 5"
    rows = tables()["table5"].rows
    both = _by_row("table5", "DIANet", "SENet")
    text = "DIANet is more accurate than SENet at every depth"
    yield Claim("table5-depth", "table5", where, text, Kind.HIGHER, both)
    text = "From depth 245 on DIANet has fewer parameters than SENet"
    note = "the text says so of all depths, where the table prints more at 83 and 164"
    yield Claim("table5-parameters", "table5", where, text, Kind.FEWER, both[2:], note=note)
    text = "DIANet83 is about as accurate as SENet245"
    pair = tuple(_between("table5", "DIANet", "ResNet83", {"ResNet245": "SENet"}))
    yield Claim("table5-equal", "table5", where, text, Kind.EQUAL, pair)
    text = "DIANet164 is more accurate than SENet at any depth"
    against = tuple(_between("table5", "DIANet", "ResNet164", dict.fromkeys(rows, "SENet")))
    yield Claim("table5-dianet164", "table5", where, text, Kind.HIGHER, against)
    where = "Introduction, Characteristics and Advantages (2); Formulation; Table 5"
    text = "The DIA unit adds as many parameters however deep the network is"
    cells = _cells("table5", ("DIANet",))
    yield Claim("table5-growth", "table5", where, text, Kind.CONSTANT, cells=cells)


def _table6() -> Iterator[Claim]:
    where = "Ablation Study, Activation function and number of stacked cells; Table 6"
    order = ("sigmoid, 1 cell", "tanh, 1 cell"), ("tanh, 1 cell", "ReLU, 1 cell")
    text = "With one cell, sigmoid is more accurate than tanh, and tanh than ReLU"
    yield Claim(
        "table6-activation", "table6", where, text, Kind.HIGHER, _by_column("table6", *order)
    )
    order = ("tanh, 3 cells", "tanh, 1 cell"), ("sigmoid, 1 cell", "sigmoid, 3 cells")
    text = "Three stacked cells help with tanh and hurt with sigmoid"
    yield Claim("table6-cells", "table6", where, text, Kind.HIGHER, _by_column("table6", *order))


def _table7() -> Iterator[Claim]:
    where = "Analysis, Feature Integration; Table 7"
    text = "Stage 3's unit matters most: without it accuracy is lower than without another's"
    worst = _by_column("table7", ("stage1", "stage3"), ("stage2", "stage3"))
    yield Claim("table7-stage3", "table7", where, text, Kind.HIGHER, worst)
    text = "Without stage 1's unit accuracy is about that without stage 2's"
    alike = _by_column("table7", ("stage1", "stage2"))
    yield Claim("table7-alike", "table7", where, text, Kind.EQUAL, alike)


def _table8() -> Iterator[Claim]:
    where = "Analysis, Removal of Batch Normalization; Table 8"
    *trained, deepest = tables()["table8"].rows
    text = "Without BN the original and SENet diverge at every depth"
    cells = _cells("table8", ("original", "SENet"))
    yield Claim("table8-diverge", "table8", where, text, Kind.DIVERGES, cells=cells)
    text = "Without BN DIANet trains up to depth 245"
    cells = _cells("table8", ("DIANet",), *trained)
    yield Claim("table8-trains", "table8", where, text, Kind.TRAINS, cells=cells)
    text = "Without BN DIANet diverges at depth 326"
    cells = _cells("table8", ("DIANet",), deepest)
    yield Claim("table8-limit", "table8", where, text, Kind.DIVERGES, cells=cells)
    text = "Without BN DIANet (r = 16) has fewer parameters than SENet at the same depth"
    fewer = _by_row("table8", "DIANet", "SENet")
    yield Claim("table8-parameters", "table8", where, text, Kind.FEWER, fewer)


def _table9() -> Iterator[Claim]:
    where = "Analysis, Without data augment; Table 9"
    text = "Without data augmentation DIANet's error is the lowest"
    best = _by_column("table9", ("DIANet", "ResNet164"), ("DIANet", "SENet"))
    yield Claim("table9-error", "table9", where, text, Kind.HIGHER, best)


def _figures() -> Iterator[Claim]:
    where = "Analysis, Feature Integration; Figure 5"
    cells = (CellKey("figure5", "DIANet164", "DIANet"),)
    text = "Stage 3 draws on more layers than stages 1 and 2"
    yield Claim("figure5-stage3", "figure5", where, text, Kind.DENSER, cells=cells)
    text = "In stage 1 the last layer draws most from an early one"
    yield Claim("figure5-early", "figure5", where, text, Kind.EARLY, cells=cells)
    where = "Analysis, Removal of skip connection; Figure 6"
    first, second = (CellKey("figure6", "ResNet56", column) for column in ("DIANet", "original"))
    pair = (Comparison("DIANet ÷ original", first, second),)
    for kind, name, when in (
        (Kind.GRADIENTS_INITIAL, "initial", "at initialisation"),
        (Kind.GRADIENTS_TRAINED, "trained", "at the last record"),
    ):
        text = f"DIANet's gradients have the larger mean and variance in each stage {when}"
        note = "the paper does not say when in training"
        yield Claim(f"figure6-{name}", "figure6", where, text, kind, pair, note=note)


def all_claims() -> tuple[Claim, ...]:
    """All of them, in the paper's order of tables and figures."""
    parts = (_table1, _table3, _table4, _table5, _table6, _table7, _table8, _table9, _figures)
    return tuple(claim for part in parts for claim in part())


def claim(name: str) -> Claim:
    """The claim of that id."""
    return next(one for one in all_claims() if one.name == name)
