"""The report as one page: its parts, its policy, and the values that its templates need."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any, Literal

from markupsafe import Markup

from dia_repro.artifacts import TableValue
from dia_repro.artifacts.explanation import Findings
from dia_repro.claims.verdicts import ClaimVerdict, verdict_records
from dia_repro.experiments.spec import Spec
from dia_repro.rendering.claims import effect_with_interval, explained, p_values, with_images
from dia_repro.rendering.escaping import template
from dia_repro.rendering.explanations import commit_text
from dia_repro.rendering.grid import Grid, make_grid
from dia_repro.rendering.html.data import as_script, page_data
from dia_repro.rendering.marks import mark_of
from dia_repro.results.schema import ProvenanceRow

OTHERS, OWN = "assets", "html/assets"  # code of other authors is in its own folder
SCRIPTS = (
    f"{OTHERS}/uPlot.iife.min.js",
    *(f"{OWN}/{name}.js" for name in ("page", "tables", "details", "curves")),
)
STYLES = (f"{OTHERS}/uPlot.min.css", f"{OWN}/page.css", f"{OWN}/parts.css")
VERDICTS = {"supported": "✓", "refuted": "✕", "undecided": "?", "not run": "○"}
MEDIA_TYPES = {"png": "image/png", "svg": "image/svg+xml"}


@dataclass(frozen=True)
class Commands:
    """Commands for one cell of an artifact: to train its experiment, and to explain it."""

    train: str
    explain: str


@dataclass(frozen=True)
class Picture:
    """A drawn figure.

    Attributes:
        content: the whole file.
        alt: description for those who do not see it.
    """

    kind: Literal["png", "svg"]
    content: bytes
    alt: str

    @property
    def address(self) -> str:
        """Return the picture as an address that contains it."""
        return f"data:{MEDIA_TYPES[self.kind]};base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True)
class Shown:
    """An artifact that a page shows whole.

    Attributes:
        command: command that trains all that it needs.
        commands: commands by row and column.
        pictures: the paper's figure, from our runs.
    """

    findings: Findings
    command: str
    commands: Mapping[tuple[str, str], Commands]
    pictures: Sequence[Picture] = ()

    @property
    def name(self) -> str:
        """Return the artifact's name."""
        return self.findings.value.artifact.name


def make_page(
    version: str,
    findings: Sequence[Findings],
    shown: Sequence[Shown],
    claims: Sequence[ClaimVerdict] = (),
    additional: Sequence[Picture] = (),
) -> str:
    """Return a page with everything in it: styles, scripts, pictures and data.

    The same arguments give the same bytes. Nothing is loaded, and no script but the page's own
    runs, whatever names the database holds.

    Args:
        version: version of this package.
        findings: findings on every artifact, for the overview.
        shown: artifacts that are shown whole.
        additional: pictures that the paper does not have.
    """
    found = [artifact.findings for artifact in shown]
    grids = [make_grid(of.value) for of in found]
    scripts, styles = ([_read(path).strip() for path in paths] for paths in (SCRIPTS, STYLES))
    by_paper = {
        "What the paper claims": [claim for claim in claims if claim.of_paper],
        "What controls ask": [claim for claim in claims if not claim.of_paper],
    }
    return template("page.html.j2").render(
        version=version,
        mark=mark_of(
            _with_runs(findings, in_paper=True) or _with_runs(found, in_paper=False),
            findings[0].value.origin,
        ),
        findings=findings,
        additional=additional,
        detailed=[artifact.name for artifact in shown],
        artifacts=[*map(_artifact, shown, grids)],
        conditions=_conditions,
        provenance=_provenance(found),
        newest=max((run.changed_at for of in found for run in of.runs), default=None),
        states=_states(found),
        claims=[(heading, of, _tally(of)) for heading, of in by_paper.items() if of],
        marks=VERDICTS,
        data=as_script(page_data(shown, grids)),
        scripts=[Markup(text) for text in scripts],  # noqa: S704
        styles=[Markup(text) for text in styles],  # noqa: S704
        policy=_policy(scripts, styles),
        licence=_read(f"{OTHERS}/uPlot.LICENSE"),
        zip=zip,
        sort_key=sort_key,
        effect_with_interval=effect_with_interval,
        explained=explained,
        p_values=p_values,
        with_images=with_images,
        records_of=lambda verdict: verdict_records([verdict]),
    )


def _with_runs(findings: Iterable[Findings], *, in_paper: bool) -> list[Spec]:
    """Return the experiments with runs of the paper's artifacts, or of others."""
    chosen = [of for of in findings if of.value.artifact.in_paper is in_paper]
    return [known.spec for of in chosen for known in of.experiments.values() if known.runs]


def _artifact(shown: Shown, grid: Grid) -> dict[str, Any]:
    """Return what the template of an artifact needs."""
    findings, artifact = shown.findings, shown.findings.value.artifact
    heading = f"{artifact.label}. {artifact.paper.title}"
    ours = [index for index, at in enumerate(grid.headings) if at.whose == "ours"]
    cells = [group[index].cell for row in grid.rows for group in row.groups for index in ours]
    return {
        "name": artifact.name,
        "heading": heading,
        "warning": grid.title.removeprefix(heading).strip(" ()"),
        "grid": grid,
        "kinds": {at.whose for at in grid.headings} | {cell.status for cell in cells if cell},
        "has_runs": bool(findings.runs),
        "has_curves": any(behind.history.epochs for behind in findings.behind),
        "command": shown.command,
        "commands": [
            (entry.label, shown.commands[entry.position])
            for entry in artifact.entries
            if entry.shown
        ],
        "pictures": shown.pictures,
    }


def sort_key(text: str) -> str:
    """Return the number that a text begins with; empty, which sorts last, where there is none."""
    number = re.match(r"↓?([-+]?\d+(?:\.\d+)?)", text)
    return number[1] if number else ""


def _read(path: str) -> str:
    return (files("dia_repro.rendering") / path).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str], styles: Sequence[str]) -> str:
    """Return a Content-Security-Policy: nothing is loaded, and only our own inline code runs."""
    ours = {"script-src": scripts, "style-src": styles}
    allowed = [f"{kind} {' '.join(map(_hash, texts))}" for kind, texts in ours.items()]
    return "; ".join(["default-src 'none'", "img-src data:", *allowed, "base-uri 'none'"])


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _conditions(value: TableValue) -> str:
    """Return the protocol, data and precision of an artifact that is shown."""
    specs = value.specs.values()
    data = ", ".join(dict.fromkeys(spec.data.dataset for spec in specs))
    precision = ", ".join(dict.fromkeys(spec.precision for spec in specs))
    return f"{value.request.protocol.value} protocol, {data}, {precision}"


def _provenance(findings: Iterable[Findings]) -> list[dict[str, Any]]:
    """Return the environments of all attempts at these runs, the newest first.

    Each has `texts` by kind, the number of `runs`, and `first` and `last`, when attempts began
    (UTC).
    """
    begun: dict[tuple[tuple[str, str], ...], list[tuple[datetime, int]]] = defaultdict(list)
    for behind in {run.run.id: run for of in findings for run in of.behind}.values():
        for attempt in behind.history.attempts:
            begun[_environment(attempt)].append((attempt.started_at, behind.run.id))
    found = [
        {
            "texts": dict(texts),
            "runs": len({run for _, run in of}),
            "first": min(of)[0],
            "last": max(of)[0],
        }
        for texts, of in begun.items()
    ]
    return sorted(found, key=lambda line: (line["last"], [*line["texts"].values()]), reverse=True)


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


def _states(findings: Iterable[Findings]) -> str:
    """Return the number of runs in each state, e.g. "10 finished, 2 diverged"."""
    known = {run.id: run.state.value for of in findings for run in of.runs}
    counts = sorted(Counter(known.values()).items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{count} {state}" for state, count in counts)


def _tally(claims: Sequence[ClaimVerdict]) -> list[tuple[str, str, int]]:
    """Return every possible verdict with its mark and count."""
    counts = Counter(claim.verdict.value for claim in claims)
    return [(verdict, mark, counts[verdict]) for verdict, mark in VERDICTS.items()]
