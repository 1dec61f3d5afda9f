"""Verdicts on the paper's claims from the runs in a database; trains and computes nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import assert_never

from dia_repro.artifacts import ARTIFACTS, CONTROLS, TableArtifact, own_artifacts
from dia_repro.artifacts.selection import Wanted, best_covered
from dia_repro.claims.evidence import (
    ClaimRuns,
    cells_of,
    counted,
    entry_at,
    gradient_rows,
    integration_rows,
)
from dia_repro.claims.rules import NO_RESULT, judge_equal, judge_order, plural
from dia_repro.claims.unpaired import (
    ABOVE_GUESSING,
    judge_counts,
    judge_divergences,
    judge_trains_too,
)
from dia_repro.claims.verdicts import ClaimVerdict, Epoch, Evidence, Judgement, Verdict
from dia_repro.experiments.protocols import Request
from dia_repro.experiments.seeds import Seeds
from dia_repro.paper.claims import (
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
from dia_repro.results.queries import HARDWARE, hardware_of, runs_of
from dia_repro.results.schema import State

AS_CLAIMED = "the counts are as the paper says"
COUNTED = {  # the reason if all counts are as claimed
    Kind.FEWER: AS_CLAIMED,
    Kind.SAVES: AS_CLAIMED,
    Kind.SAME_COST: "the counts are the same",
    Kind.CONSTANT: "the same at all {} depths, to the last parameter",
}
ON_ACCURACY = (Kind.HIGHER, Kind.EQUAL, Kind.GAIN, Kind.REACHES)
ON_COUNTS = "counted on the paper's networks, nothing trained"
BY = {
    Epoch.BEST: "best accuracy over epochs",
    Epoch.LAST: "accuracy of the last epoch",
}
VALIDATED = "accuracy of the epoch that images held out of the training set choose"
NOT_TESTED = "not judged where images are held out: the last epoch is not tested"
OTHER_DATA = "an accuracy that the paper states is judged on the paper's data only"
NOT_ANALYSED = "no analysis of a finished run is kept: dia-repro analyze gini"
NOT_RECORDED = "no finished runs of both networks have recorded their gradients"
LOSSES = "runs whose loss is not finite any more"
LEARNED = f"runs that end {ABOVE_GUESSING:g} points above guessing"
ON_RUNS = {
    Kind.DENSER: "one stage's mean cell, by trained network",
    Kind.EARLY: "by trained network",
    Kind.GRADIENTS_INITIAL: "the first batch of training",
    Kind.GRADIENTS_TRAINED: "the first batch of the last epoch",
    Kind.DIVERGES: LOSSES,
    Kind.TRAINS: LEARNED,
    Kind.TRAINS_TOO: LEARNED,
    Kind.GAP: "test minus training accuracy in the last epoch",
}


@one_state
def evaluate_claims(
    database: Database, wanted: Wanted, by: Epoch = Epoch.BEST
) -> tuple[ClaimVerdict, ...]:
    """Judge the claims of the paper, the questions of controls, and claims on own artifacts.

    Args:
        database: only read.
        wanted: choices that the user has fixed. The others are, for each artifact, those of most
            runs in the database. Runs of seeds that it leaves out are no evidence.
        by: the epoch whose test accuracy counts.
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
    verdicts = []
    for claim in claims:
        runs = ClaimRuns(claim, requests[claim.artifact], specs[claim.name], found, by, seeds)
        verdicts.append(_evaluate(database, runs))
    whose = f", runs of {database.origin}" if database.origin else ""
    behind = (run.id for each in verdicts for found in each.evidence for run in found.runs)
    hardware = hardware_of(database, behind)
    return tuple(
        replace(
            verdict,
            evidence=tuple(_with_hardware(found, hardware) for found in verdict.evidence),
            reason=verdict.reason + _of_controls(verdict, claims, verdicts, requests),
            conditions=verdict.conditions + whose,
        )
        for verdict in verdicts
    )


def every_claim() -> tuple[Claim, ...]:
    """Return the paper's claims, the questions of controls, and claims on own artifacts."""
    own = [claim for artifact in own_artifacts() for claim in own_claims(artifact)]
    return (*all_claims(), *all_controls(), *own)


def own_claims(artifact: TableArtifact) -> list[Claim]:
    """Return a claim for each two networks that an own artifact compares.

    It says that a network is more accurate than the one it is compared with; where only their
    columns or only their rows differ, in all rows or columns that compare the same two.
    """
    pairs: dict[tuple[str, str], list[Comparison]] = {}
    for entry in artifact.entries:
        if entry.compared_with is None:
            continue
        row, column, (other_row, other_column) = entry.row, entry.column, entry.compared_with
        if row == other_row:
            names, where = (column, other_column), f"{row}: "
        elif column == other_column:
            names, where = (row, other_row), f"{column}: "
        else:
            names, where = (f"{column} {row}", f"{other_column} {other_row}"), ""
        comparison = Comparison(
            f"{where}{names[0]} − {names[1]}",
            CellKey(artifact.name, row, column),
            CellKey(artifact.name, other_row, other_column),
        )
        pairs.setdefault(names, []).append(comparison)
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
    claim, is_counted = runs.claim, runs.claim.kind in COUNTED
    judged = otherwise = _judged(database, runs)
    if claim.kind in ON_ACCURACY:
        other = Epoch.LAST if runs.by is Epoch.BEST else Epoch.BEST
        otherwise = _judged(database, replace(runs, by=other))
    papers_own = is_counted or runs.papers_own
    foreign = not papers_own and judged.verdict is not Verdict.NOT_RUN
    parts = (
        judged.reason,
        "not on the paper's data and schedule" if foreign else "",
        claim.note,
        claim.elsewhere,
    )
    reason = "; ".join(filter(None, parts))
    return ClaimVerdict(
        claim=claim.name,
        artifact=claim.artifact,
        text=claim.text,
        where=claim.where,
        verdict=judged.verdict,
        evidence=judged.evidence,
        main=judged.main,
        reason=f"{reason[0].upper()}{reason[1:]}.",
        by=runs.by,
        otherwise=otherwise.verdict if otherwise.verdict is not judged.verdict else None,
        conditions=ON_COUNTS if is_counted else _conditions(runs),
        papers_own=papers_own,
    )


def _conditions(runs: ClaimRuns) -> str:
    """Return e.g. "paper protocol, cifar100, fp32, 180 epochs, best accuracy over epochs"."""
    specs = runs.specs.values()
    epochs = sorted({spec.recipe.epochs for spec in specs})
    parts = [
        f"{runs.request.protocol.value} protocol",
        _listed(spec.data.label for spec in specs),
        _listed(spec.precision for spec in specs),
        f"{epochs[0]} to {epochs[-1]} epochs" if epochs[1:] else f"{epochs[0]} epochs",
        ON_RUNS.get(runs.claim.kind, VALIDATED if runs.validated else BY[runs.by]),
    ]
    if runs.request.rate is not None:
        parts.insert(-1, f"rate {runs.request.rate:g}")
    if runs.seeds.chosen:
        parts.append(f"{runs.seeds.words} only")
    return ", ".join(parts)


def _listed(texts: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(texts))


def _judged(database: Database, runs: ClaimRuns) -> Judgement:
    judged = _judge(database, runs)
    untested = runs.claim.kind is Kind.GAP and runs.validated
    return replace(judged, reason=NOT_TESTED) if untested else judged


def _judge(database: Database, runs: ClaimRuns) -> Judgement:
    claim = runs.claim
    match claim.kind:
        case Kind.FEWER | Kind.SAVES | Kind.SAME_COST | Kind.CONSTANT:
            return judge_counts(counted(claim), COUNTED[claim.kind].format(len(claim.cells)))
        case Kind.HIGHER | Kind.GAIN | Kind.GAP:
            return judge_order(runs.rows())
        case Kind.EQUAL:
            return judge_equal(runs.rows(), claim.spreads * equal_within())
        case Kind.DIVERGES | Kind.TRAINS:
            outcomes = [runs.outcomes(cell) for cell in claim.cells]
            return judge_divergences(outcomes, claimed=claim.kind is Kind.DIVERGES)
        case Kind.TRAINS_TOO:
            pairs = [(pair.first, pair.second) for pair in claim.comparisons]
            return judge_trains_too([(runs.outcomes(a), runs.outcomes(b)) for a, b in pairs])
        case Kind.REACHES if runs.on_papers_data:
            rows, absent = runs.rows_against_accuracy(), NO_RESULT
        case Kind.REACHES:
            rows, absent = [], OTHER_DATA
        case Kind.DENSER | Kind.EARLY:
            rows, absent = integration_rows(database, runs), NOT_ANALYSED
        case Kind.GRADIENTS_INITIAL | Kind.GRADIENTS_TRAINED:
            rows, absent = gradient_rows(database, runs), NOT_RECORDED
        case _:
            assert_never(claim.kind)
    judged = judge_order(rows)
    return replace(judged, reason=absent) if judged.verdict is Verdict.NOT_RUN else judged


def _with_hardware(evidence: Evidence, hardware: Mapping[int, Mapping[str, set[str]]]) -> Evidence:
    """Add to the note of paired evidence how many pairs were not trained alike, if any.

    Args:
        hardware: `queries.hardware_of` for all runs of the evidence.
    """
    by_seed: dict[int, list[Mapping[str, set[str]]]] = defaultdict(list)
    for run in evidence.runs:
        if run.id in hardware and run.state is State.FINISHED:  # a diverged one is in no pair
            by_seed[run.seed].append(hardware[run.id])
    pairs = [runs for runs in by_seed.values() if runs[1:]]
    differing = [
        [name for name in HARDWARE if len(set().union(*(run[name] for run in runs))) > 1]
        for runs in pairs
    ]
    count = sum(bool(names) for names in differing)
    if not count:
        return evidence
    words = [words for name, words in HARDWARE.items() if any(name in names for names in differing)]
    said = f"{count} of {plural(len(pairs), 'pair')} trained with different {', '.join(words)}"
    return replace(evidence, note="; ".join(filter(None, (evidence.note, said))))


def _of_controls(
    verdict: ClaimVerdict,
    claims: Sequence[Claim],
    verdicts: Sequence[ClaimVerdict],
    requests: Mapping[str, Request],
) -> str:
    """Return e.g. " Controls: SE diverges (4 of 4 networks): attention alone is not the reason.".

    A control has an answer for a claim only under the same protocol, data and schedule.
    Without any answer the sentence is empty.

    Args:
        claims: the claims of all verdicts, in their order.
        requests: by artifact.
    """
    found: dict[str, list[str]] = defaultdict(list)
    unanswered: dict[Verdict, list[str]] = defaultdict(list)
    for claim, answer in zip(claims, verdicts, strict=True):
        control = claim.control
        if control is None or verdict.claim not in control.controls:
            continue
        conditions = [
            replace(request, precision_asked=False)
            for request in (requests[verdict.artifact], requests[answer.artifact])
        ]
        said = answer.verdict if conditions[0] == conditions[1] else Verdict.NOT_RUN
        match said:
            case Verdict.SUPPORTED | Verdict.REFUTED:
                supported = said is Verdict.SUPPORTED
                what, follows = control.if_supported if supported else control.if_refuted
                found[follows].append(f"{what} ({_as_asked(claim, answer)})")
            case Verdict.UNDECIDED | Verdict.NOT_RUN:
                unanswered[said].append(control.tried)
            case _:
                assert_never(said)
    if not found:
        return ""
    parts = [f"{', '.join(whats)}: {follows}" for follows, whats in found.items()]
    parts += [f"{said}: {', '.join(tried)}" for said, tried in unanswered.items()]
    return f" Controls: {'; '.join(parts)}."


def _as_asked(claim: Claim, answer: ClaimVerdict) -> str:
    """Return e.g. "4 of 4 networks", "2 of 2 networks: ResNet83, ResNet164"."""
    of_networks = (Kind.TRAINS, Kind.TRAINS_TOO, Kind.DIVERGES)
    thing = "network" if claim.kind in of_networks else "comparison"
    as_asked = sum(evidence.in_favour is True for evidence in answer.evidence)
    said = f"{as_asked} of {plural(len(answer.evidence), thing)}"
    if claim.kind is Kind.TRAINS_TOO:  # only where the paper's network is shown to train
        said += f": {', '.join(found.compared.partition(': ')[2] for found in answer.evidence)}"
    return said
