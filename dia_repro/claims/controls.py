"""Controls of the paper's claims: what their answers leave of a claim's explanations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dia_repro.claims.rules import plural
from dia_repro.claims.verdicts import ClaimVerdict, Verdict
from dia_repro.experiments.protocols import Request
from dia_repro.paper import Claim, Control, Kind

ANSWERS = (Verdict.SUPPORTED, Verdict.REFUTED)
OUTCOMES = (Kind.TRAINS_TOO, Kind.DIVERGES)  # that networks are counted by


def with_controls(
    verdicts: Sequence[ClaimVerdict], claims: Sequence[Claim], requests: Mapping[str, Request]
) -> tuple[ClaimVerdict, ...]:
    """Return the verdicts; the reasons of those whose controls have answers name these.

    A control says something of a claim only under the same protocol, data and number of epochs.

    Args:
        claims: of the verdicts, in their order.
        requests: by artifact.
    """
    said = []
    for verdict in verdicts:
        mine = [
            (claim, of_control)
            for claim, of_control in zip(claims, verdicts, strict=True)
            if claim.control and verdict.claim in claim.control.of
        ]
        asked = _conditions(requests[verdict.artifact])
        known = [
            (claim, one)
            if _conditions(requests[one.artifact]) == asked
            else (claim, replace(one, verdict=Verdict.NOT_RUN))
            for claim, one in mine
        ]
        answered = any(one.verdict in ANSWERS for _, one in known)
        sentence = f" {controls_sentence(known)}" if answered else ""
        said.append(replace(verdict, reason=f"{verdict.reason}{sentence}"))
    return tuple(said)


def controls_sentence(known: Sequence[tuple[Claim, ClaimVerdict]]) -> str:
    """Return e.g. "Controls: SE diverges (4 of 4 networks): attention alone is not the reason.".

    Args:
        known: questions of controls with their verdicts; one at least is answered.
    """
    found: dict[str, list[str]] = defaultdict(list)
    open_: dict[Verdict, list[str]] = defaultdict(list)
    for claim, verdict in known:
        control = _control(claim)
        match verdict.verdict:
            case Verdict.SUPPORTED | Verdict.REFUTED as answer:
                what, follows = control.answer(yes=answer is Verdict.SUPPORTED)
                found[follows].append(f"{what} ({_counted(claim, verdict)})")
            case Verdict.UNDECIDED | Verdict.NOT_RUN as answer:
                open_[answer].append(control.tried)
    parts = [f"{', '.join(whats)}: {follows}" for follows, whats in found.items()]
    parts += [f"{answer}: {', '.join(tried)}" for answer, tried in open_.items() if tried]
    return f"Controls: {'; '.join(parts)}."


def _control(claim: Claim) -> Control:
    if claim.control is None:
        raise ValueError(f"{claim.name} is no question of a control")
    return claim.control


def _counted(claim: Claim, verdict: ClaimVerdict) -> str:
    thing = "network" if claim.kind in OUTCOMES else "comparison"
    as_asked = sum(one.in_favour is True for one in verdict.evidence)
    return f"{as_asked} of {plural(len(verdict.evidence), thing)}"


def _conditions(request: Request) -> tuple[object, ...]:
    return request.protocol, request.data, request.epochs
