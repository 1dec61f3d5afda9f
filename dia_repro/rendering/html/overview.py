"""What a page says at a glance: how complete each artifact is, and what its runs ran on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from dia_repro.artifacts.explanation import Findings
from dia_repro.claims.verdicts import ClaimVerdict, Evidence
from dia_repro.rendering.claims import effect_with_interval

VERDICTS = {"supported": "✓", "refuted": "✕", "undecided": "?", "not run": "○"}
SHORT_COMMIT = 10
CLEANNESS = {True: "", False: ", modified", None: ", modified or not: unknown"}
MOST_RUNS = 12  # that a line of evidence names
KINDS = ("dia-repro", "commit", "torch", "CUDA", "Python", "device", "host")


@dataclass(frozen=True)
class Glance:
    """A line of the overview.

    Attributes:
        circumstances: protocol, data and precision that are shown.
        state: complete, partial or missing.
        command: what would train all of it.
    """

    name: str
    label: str
    title: str
    circumstances: str
    done: int
    needed: int
    diverged: int
    state: str
    command: str


def glance(findings: Findings, command: str) -> Glance:
    """How complete an artifact is."""
    value, done, needed = findings.value, findings.done, findings.needed
    specs = value.specs.values()
    data = ", ".join(dict.fromkeys(spec.data.dataset for spec in specs))
    precision = ", ".join(dict.fromkeys(spec.precision for spec in specs))
    return Glance(
        name=findings.artifact.name,
        label=value.label,
        title=value.paper.title,
        circumstances=f"{value.request.protocol.value} protocol, {data}, {precision}",
        done=done,
        needed=needed,
        diverged=findings.diverged,
        state="complete" if done >= needed else "partial" if done else "missing",
        command=command,
    )


@dataclass(frozen=True)
class Surroundings:
    """What runs ran on, the same for all of them.

    Attributes:
        on: a text for each of `KINDS`.
        runs: how many.
        first, last: UTC, when attempts began.
    """

    on: tuple[str, ...]
    runs: int
    first: datetime
    last: datetime


def surroundings(findings: Iterable[Findings]) -> list[Surroundings]:
    """All that attempts at these runs ran on, the newest first."""
    tried = {of.run.id: of.history.attempts for one in findings for of in one.behind}
    runs: dict[tuple[str, ...], set[int]] = {}
    moments: dict[tuple[str, ...], list[datetime]] = {}
    for run, tries in tried.items():
        for one in tries:
            key = (
                one.package,
                _commit(one.git_commit, one.git_clean),
                one.torch,
                one.cuda or "–",
                one.python,
                one.device,
                one.host,
            )
            runs.setdefault(key, set()).add(run)
            moments.setdefault(key, []).append(one.started_at)
    found = [
        Surroundings(key, len(runs[key]), min(moments[key]), max(moments[key])) for key in runs
    ]
    return sorted(found, key=lambda one: (one.last, one.on), reverse=True)


def _commit(commit: str | None, clean: bool | None) -> str:
    if commit is None:
        return "no checkout"
    return commit[:SHORT_COMMIT] + CLEANNESS[clean]


def newest(findings: Iterable[Findings]) -> datetime | None:
    """When the last of these runs changed, UTC."""
    return max((run.changed_at for one in findings for run in one.runs), default=None)


def states(findings: Iterable[Findings]) -> str:
    """How many runs are in each state, e.g. "10 finished, 2 diverged"."""
    known = {run.id: run.state.value for one in findings for run in one.runs}
    counts = sorted(Counter(known.values()).items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{count} {state}" for state, count in counts)


def tally(claims: Sequence[ClaimVerdict]) -> list[tuple[str, str, int]]:
    """(verdict, mark, how many) for every verdict that there can be."""
    counts = Counter(one.verdict.value for one in claims)
    return [(verdict, mark, counts[verdict]) for verdict, mark in VERDICTS.items()]


def evidence_cells(one: Evidence) -> tuple[str, ...]:
    """One comparison of a claim, in words: compared, effect, n, p, in favour, runs, note."""
    more = len(one.runs) - MOST_RUNS
    runs = ", ".join(map(str, one.runs[:MOST_RUNS])) + (f" and {more} more" if more > 0 else "")
    return (
        one.compared,
        effect_with_interval(one.effect, one.low, one.high, one.unit),
        str(one.n),
        "" if one.p is None else "< 0.001" if one.p < 0.001 else f"{one.p:.2g}",
        {True: "yes", False: "no", None: ""}[one.in_favour],
        runs,
        one.note,
    )
