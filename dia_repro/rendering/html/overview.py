"""What a page says at a glance: how complete each artifact is, and what its runs ran on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from dia_repro.artifacts import TableValue
from dia_repro.artifacts.explanation import Findings
from dia_repro.claims.verdicts import ClaimVerdict
from dia_repro.rendering.explanations import commit_text
from dia_repro.results.schema import ProvenanceRow

VERDICTS = {"supported": "✓", "refuted": "✕", "undecided": "?", "not run": "○"}


def conditions(value: TableValue) -> str:
    """Return the protocol, data and precision of an artifact that is shown."""
    specs = value.specs.values()
    data = ", ".join(dict.fromkeys(spec.data.dataset for spec in specs))
    precision = ", ".join(dict.fromkeys(spec.precision for spec in specs))
    return f"{value.request.protocol.value} protocol, {data}, {precision}"


def provenance(findings: Iterable[Findings]) -> list[dict[str, Any]]:
    """Return the environments of all attempts at these runs, the newest first.

    Each has `texts` by kind, the number of `runs`, and `first` and `last`, when attempts began
    (UTC).
    """
    begun: dict[tuple[tuple[str, str], ...], list[tuple[datetime, int]]] = defaultdict(list)
    for run in {of.run.id: of for one in findings for of in one.behind}.values():
        for attempt in run.history.attempts:
            begun[_environment(attempt)].append((attempt.started_at, run.run.id))
    found = [
        {
            "texts": dict(texts),
            "runs": len({run for _, run in of}),
            "first": min(of)[0],
            "last": max(of)[0],
        }
        for texts, of in begun.items()
    ]
    return sorted(found, key=lambda one: (one["last"], [*one["texts"].values()]), reverse=True)


def _environment(attempt: ProvenanceRow) -> tuple[tuple[str, str], ...]:
    return (
        ("dia-repro", attempt.package),
        ("commit", commit_text(attempt.git_commit, attempt.git_clean) or "no checkout"),
        ("torch", attempt.torch),
        ("CUDA", attempt.cuda or "–"),
        ("Python", attempt.python),
        ("device", attempt.device),
        ("host", attempt.host),
    )


def newest(findings: Iterable[Findings]) -> datetime | None:
    """Return when the last of these runs changed, UTC."""
    return max((run.changed_at for one in findings for run in one.runs), default=None)


def states(findings: Iterable[Findings]) -> str:
    """Return how many runs are in each state, e.g. "10 finished, 2 diverged"."""
    known = {run.id: run.state.value for one in findings for run in one.runs}
    counts = sorted(Counter(known.values()).items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{count} {state}" for state, count in counts)


def tally(claims: Sequence[ClaimVerdict]) -> list[tuple[str, str, int]]:
    """Return (verdict, mark, count) of every possible verdict."""
    counts = Counter(one.verdict.value for one in claims)
    return [(verdict, mark, counts[verdict]) for verdict, mark in VERDICTS.items()]
