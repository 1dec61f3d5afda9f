"""Claims that counting the paper's networks decides: exact, and without any training."""

from __future__ import annotations

from dia_repro.claims.rules import Judgement
from dia_repro.claims.runs import entry_at
from dia_repro.claims.unpaired import Counted, judge_counts
from dia_repro.experiments.names import Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.experiments.spec import NoAttention, Spec
from dia_repro.models.counting import Counts, count
from dia_repro.paper import CellKey, Claim, Comparison, Kind

MILLION = 1e6


def judge_by_counting(claim: Claim) -> Judgement:
    """Count the claim's networks, as the paper's protocol trains them."""
    if claim.kind is Kind.FEWER:
        return judge_counts(
            [_fewer(pair) for pair in claim.comparisons], "the counts are as the paper says"
        )
    if claim.kind is Kind.SAME_COST:
        return judge_counts(
            [_same_cost(pair) for pair in claim.comparisons], "the counts are the same"
        )
    return judge_counts(
        _increments(claim.cells),
        f"the same at all {len(claim.cells)} depths, to the last parameter",
    )


def _spec(cell: CellKey) -> Spec:
    return entry_at(cell).spec(Request(Protocol.PAPER))


def _count(spec: Spec) -> Counts:
    return count(spec.model, spec.data.classes, spec.data.image_size)


def _fewer(pair: Comparison) -> Counted:
    specs = _spec(pair.first), _spec(pair.second)
    first, second = (_count(spec).parameters for spec in specs)
    note = f"{first:,} against {second:,}"
    return Counted(pair.label, (first - second) / MILLION, "M", first < second, note)


def _same_cost(pair: Comparison) -> Counted:
    specs = _spec(pair.first), _spec(pair.second)
    first, second = (_count(spec).macs for spec in specs)
    note = f"{first:,} and {second:,} multiply-accumulates for an image"
    return Counted(pair.label, (first - second) / MILLION, "MMAC", first == second, note)


def _added(cell: CellKey) -> int:
    """What attention adds over the same backbone without it."""
    spec = _spec(cell)
    model = spec.model.model_copy(update={"attention": NoAttention()})
    bare = spec.model_copy(update={"model": model})
    return _count(spec).parameters - _count(bare).parameters


def _increments(cells: tuple[CellKey, ...]) -> list[Counted]:
    added = [_added(at) for at in cells]
    return [
        Counted(
            f"{at.row}: {at.column} − original",
            more / MILLION,
            "M",
            more == added[0],
            f"{more:,} parameters",
        )
        for at, more in zip(cells, added, strict=True)
    ]
