"""The paper's claims, each judged by what the database holds. Trains and computes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from dia_repro.artifacts import ARTIFACTS
from dia_repro.artifacts.selection import Wanted, best_covered
from dia_repro.claims.analyses import gradient_rows, integration_rows
from dia_repro.claims.counts import judge_by_counting
from dia_repro.claims.rules import Judgement, judge_equal, judge_order
from dia_repro.claims.runs import POINTS, ClaimRuns, cells_of, entry_at
from dia_repro.claims.unpaired import judge_divergences, judge_steady
from dia_repro.claims.verdicts import ClaimVerdict, Evidence, Verdict
from dia_repro.experiments.describe import describe_data
from dia_repro.paper import Claim, Kind, all_claims, equal_within
from dia_repro.results.database import Database
from dia_repro.results.queries import runs_of

__all__ = ["ClaimVerdict", "Evidence", "Verdict", "evaluate_claims"]

COUNTED = (Kind.FEWER, Kind.SAME_COST, Kind.CONSTANT)
ON_COUNTS = "counted on the paper's networks, nothing trained"
BEST = "best accuracy over epochs"
NOT_ANALYSED = "no analysis of a finished run is kept: dia-repro analyze gini"
NOT_RECORDED = "no finished runs of both networks have recorded their gradients"
ON_RUNS = {
    Kind.DENSER: "one stage's mean cell, by trained network",
    Kind.EARLY: "by trained network",
    Kind.GRADIENTS_INITIAL: "the first batch of training",
    Kind.GRADIENTS_TRAINED: "the first batch of the last epoch",
    Kind.DIVERGES: "runs whose loss is not finite any more",
    Kind.TRAINS: "runs whose loss is not finite any more",
}


def evaluate_claims(database: Database, wanted: Wanted) -> tuple[ClaimVerdict, ...]:
    """Every claim of the paper, in the paper's order.

    Args:
        database: read only.
        wanted: protocol, precision, data and epochs where the user has fixed them; for each
            artifact the rest is what the database holds most runs of.
    """
    requests = {
        name: artifact.as_usual(best_covered(artifact, database, wanted))
        for name, artifact in ARTIFACTS.items()
    }
    specs = {
        claim.name: {at: entry_at(at).spec(requests[claim.artifact]) for at in cells_of(claim)}
        for claim in all_claims()
    }
    found = runs_of(database, (s.spec_id for of_claim in specs.values() for s in of_claim.values()))
    return tuple(
        _evaluate(database, ClaimRuns(claim, requests[claim.artifact], specs[claim.name], found))
        for claim in all_claims()
    )


def _evaluate(database: Database, runs: ClaimRuns) -> ClaimVerdict:
    claim, counted = runs.claim, runs.claim.kind in COUNTED
    judged = _judge(database, runs)
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
        more_seeds=judged.more_seeds,
        conditions=ON_COUNTS if counted else _conditions(runs),
        papers_own=papers_own,
    )


def _sentence(claim: Claim, judged: Judgement, papers_own: bool) -> str:
    parts = [judged.reason]
    if not papers_own and judged.verdict is not Verdict.NOT_RUN:
        parts.append("not on the paper's data and schedule")
    if claim.note:
        parts.append(claim.note)
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _conditions(runs: ClaimRuns) -> str:
    """E.g. "paper protocol, cifar100, fp32, 180 epochs, best accuracy over epochs"."""
    specs = runs.specs.values()
    return ", ".join(
        [
            f"{runs.request.protocol.value} protocol",
            _listed(describe_data(spec.data) for spec in specs),
            _listed(spec.precision for spec in specs),
            f"{_range(spec.recipe.epochs for spec in specs)} epochs",
            ON_RUNS.get(runs.claim.kind, BEST),
        ]
    )


def _listed(texts: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(texts))


def _range(numbers: Iterable[int]) -> str:
    known = sorted(set(numbers))
    return f"{known[0]} to {known[-1]}" if len(known) > 1 else str(known[0])


def _judge(database: Database, runs: ClaimRuns) -> Judgement:
    kind = runs.claim.kind
    if kind in COUNTED:
        return judge_by_counting(runs.claim)
    if kind is Kind.HIGHER:
        return judge_order(runs.rows())
    if kind is Kind.EQUAL:
        return judge_equal(runs.rows(), equal_within())
    if kind is Kind.STEADY:
        return judge_steady(runs.group(), "range of means − range by seeds alone", POINTS)
    if kind in (Kind.DIVERGES, Kind.TRAINS):
        return judge_divergences(runs.outcomes(), claimed=kind is Kind.DIVERGES)
    return _judge_analyses(database, runs)


def _judge_analyses(database: Database, runs: ClaimRuns) -> Judgement:
    if runs.claim.kind in (Kind.DENSER, Kind.EARLY):
        rows, absent = integration_rows(database, runs), NOT_ANALYSED
    else:
        rows, absent = gradient_rows(database, runs), NOT_RECORDED
    judged = judge_order(rows)
    return replace(judged, reason=absent) if judged.verdict is Verdict.NOT_RUN else judged
