"""The paper's claims, each judged by what the database holds. Trains and computes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

from dia_repro.artifacts import ARTIFACTS, CONTROLS, TableArtifact, own_artifacts
from dia_repro.artifacts.selection import Wanted, best_covered
from dia_repro.claims.controls import with_controls
from dia_repro.claims.evidence import (
    ClaimRuns,
    cells_of,
    entry_at,
    gradient_rows,
    integration_rows,
    judge_by_counting,
)
from dia_repro.claims.rules import NO_RESULT, Judgement, judge_equal, judge_order
from dia_repro.claims.unpaired import judge_divergences, judge_trains_too
from dia_repro.claims.verdicts import ClaimVerdict, Epoch, Evidence, Verdict
from dia_repro.experiments.describe import describe_data
from dia_repro.experiments.seeds import Seeds
from dia_repro.paper import (
    OWN_CLAIM,
    CellKey,
    Claim,
    Comparison,
    Kind,
    all_claims,
    all_controls,
    equal_within,
)
from dia_repro.results.database import Database, one_state
from dia_repro.results.queries import runs_of

__all__ = ["ClaimVerdict", "Evidence", "Verdict", "evaluate_claims"]

COUNTED = (Kind.FEWER, Kind.SAVES, Kind.SAME_COST, Kind.CONSTANT)
ON_ACCURACY = (Kind.HIGHER, Kind.EQUAL, Kind.GAIN, Kind.REACHES)
ON_COUNTS = "counted on the paper's networks, nothing trained"
BY = {
    Epoch.BEST: "best accuracy over epochs",
    Epoch.LAST: "accuracy of the last epoch",
}
OTHER_DATA = "an accuracy that the paper states is judged on the paper's data only"
NOT_ANALYSED = "no analysis of a finished run is kept: dia-repro analyze gini"
NOT_RECORDED = "no finished runs of both networks have recorded their gradients"
ON_RUNS = {
    Kind.DENSER: "one stage's mean cell, by trained network",
    Kind.EARLY: "by trained network",
    Kind.GRADIENTS_INITIAL: "the first batch of training",
    Kind.GRADIENTS_TRAINED: "the first batch of the last epoch",
    Kind.DIVERGES: "runs whose loss is not finite any more",
    Kind.TRAINS: "runs whose loss is not finite any more",
    Kind.TRAINS_TOO: "runs whose loss is not finite any more",
    Kind.GAP: "training minus test accuracy in the last epoch",
}


@one_state
def evaluate_claims(
    database: Database, wanted: Wanted, by: Epoch = Epoch.BEST
) -> tuple[ClaimVerdict, ...]:
    """Judge every claim of the paper in its order, questions of controls, claims of one's own.

    Args:
        database: read only.
        wanted: protocol, precision, data and epochs where the user has fixed them; for each
            artifact the rest is what the database holds most runs of. Runs of seeds that it leaves
            out are no evidence.
        by: which epoch's test accuracy counts.
    """
    claims = every_claim()
    requests = {
        name: artifact.as_usual(best_covered(artifact, database, wanted))
        for name, artifact in {**ARTIFACTS, **CONTROLS}.items()
    }
    specs = {
        claim.name: {at: entry_at(at).spec(requests[claim.artifact]) for at in cells_of(claim)}
        for claim in claims
    }
    found = runs_of(database, (s.spec_id for of_claim in specs.values() for s in of_claim.values()))
    seeds = wanted.seeds or Seeds()
    verdicts = [
        _evaluate(
            database,
            ClaimRuns(claim, requests[claim.artifact], specs[claim.name], found, by, seeds),
        )
        for claim in claims
    ]
    return with_controls(verdicts, claims, requests)


def every_claim() -> tuple[Claim, ...]:
    """Return the paper's claims, the questions of controls, those on artifacts of one's own."""
    own = [claim for artifact in own_artifacts() for claim in own_claims(artifact)]
    return (*all_claims(), *all_controls(), *own)


def own_claims(artifact: TableArtifact) -> list[Claim]:
    """Return a claim for each two networks that an artifact of one's own compares.

    It says that a network is more accurate than the one it is compared with; where only their
    columns or only their rows differ, in all rows or columns that compare the same two.
    """
    pairs: dict[tuple[str, str], list[Comparison]] = {}
    for entry in artifact.entries:
        if entry.compared_with is None:
            continue
        (row, column), (other_row, other_column) = (entry.row, entry.column), entry.compared_with
        if row == other_row:
            names, where = (column, other_column), f"{row}: "
        elif column == other_column:
            names, where = (row, other_row), f"{column}: "
        else:
            names, where = (f"{column} {row}", f"{other_column} {other_row}"), ""
        label = f"{where}{names[0]} − {names[1]}"
        first, second = (
            CellKey(artifact.name, *cell) for cell in ((row, column), entry.compared_with)
        )
        pairs.setdefault(names, []).append(Comparison(label, first, second))
    return [
        Claim(
            name=f"{artifact.name}-{number}",
            artifact=artifact.name,
            where=OWN_CLAIM,
            text=f"{first} is more accurate than {second} in {artifact.title or artifact.name}",
            kind=Kind.HIGHER,
            comparisons=tuple(comparisons),
        )
        for number, ((first, second), comparisons) in enumerate(pairs.items(), start=1)
    ]


def _evaluate(database: Database, runs: ClaimRuns) -> ClaimVerdict:
    claim, counted = runs.claim, runs.claim.kind in COUNTED
    judged = _judge(database, runs)
    other = Epoch.LAST if runs.by is Epoch.BEST else Epoch.BEST
    otherwise = _judge(database, replace(runs, by=other)) if claim.kind in ON_ACCURACY else judged
    papers_own = counted or runs.papers_own
    return ClaimVerdict(
        claim=claim.name,
        artifact=claim.artifact,
        text=claim.text,
        where=claim.where,
        verdict=judged.verdict,
        evidence=judged.evidence,
        main=judged.main,
        reason=_sentence(claim, judged, papers_own),
        by=runs.by,
        otherwise=otherwise.verdict if otherwise.verdict is not judged.verdict else None,
        conditions=ON_COUNTS if counted else _conditions(runs),
        papers_own=papers_own,
    )


def _sentence(claim: Claim, judged: Judgement, papers_own: bool) -> str:
    parts = [judged.reason]
    if not papers_own and judged.verdict is not Verdict.NOT_RUN:
        parts.append("not on the paper's data and schedule")
    parts += [said for said in (claim.note, claim.elsewhere) if said]
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _conditions(runs: ClaimRuns) -> str:
    """Return e.g. "paper protocol, cifar100, fp32, 180 epochs, best accuracy over epochs"."""
    specs = runs.specs.values()
    return ", ".join(
        [
            f"{runs.request.protocol.value} protocol",
            _listed(describe_data(spec.data) for spec in specs),
            _listed(spec.precision for spec in specs),
            f"{_range(spec.recipe.epochs for spec in specs)} epochs",
            ON_RUNS.get(runs.claim.kind, BY[runs.by]),
            *([f"{runs.seeds.words} only"] if runs.seeds.chosen else []),
        ]
    )


def _listed(texts: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(texts))


def _range(numbers: Iterable[int]) -> str:
    known = sorted(set(numbers))
    return f"{known[0]} to {known[-1]}" if len(known) > 1 else str(known[0])


def _judge(database: Database, runs: ClaimRuns) -> Judgement:
    kind = runs.claim.kind
    match kind:
        case Kind.FEWER | Kind.SAVES | Kind.SAME_COST | Kind.CONSTANT:
            return judge_by_counting(runs.claim)
        case Kind.HIGHER | Kind.GAIN | Kind.GAP:
            return judge_order(runs.rows())
        case Kind.EQUAL:
            return judge_equal(runs.rows(), runs.claim.spreads * equal_within())
        case Kind.DIVERGES | Kind.TRAINS:
            return judge_divergences(runs.outcomes(), claimed=kind is Kind.DIVERGES)
        case Kind.TRAINS_TOO:
            return judge_trains_too(runs.compared_outcomes())
        case Kind.REACHES if runs.on_papers_data:
            rows, absent = runs.rows_against(runs.claim.at_least), NO_RESULT
        case Kind.REACHES:
            rows, absent = [], OTHER_DATA
        case Kind.DENSER | Kind.EARLY:
            rows, absent = integration_rows(database, runs), NOT_ANALYSED
        case Kind.GRADIENTS_INITIAL | Kind.GRADIENTS_TRAINED:
            rows, absent = gradient_rows(database, runs), NOT_RECORDED
        case _:
            assert_never(kind)
    judged = judge_order(rows)
    return replace(judged, reason=absent) if judged.verdict is Verdict.NOT_RUN else judged
