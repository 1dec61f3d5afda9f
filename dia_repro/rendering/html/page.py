"""The report as one page: its parts, its policy, and what its templates need."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

from markupsafe import Markup

from dia_repro.artifacts.explanation import Findings
from dia_repro.claims.verdicts import ClaimVerdict, verdict_records
from dia_repro.rendering.claims import effect_with_interval, explained, p_values, with_images
from dia_repro.rendering.escaping import template
from dia_repro.rendering.grid import Grid, make_grid
from dia_repro.rendering.html import overview
from dia_repro.rendering.html.data import as_script, page_data

SCRIPTS = ("uPlot.iife.min.js", "page.js", "tables.js", "details.js", "curves.js")
STYLES = ("uPlot.min.css", "page.css", "parts.css")
OTHERS = "uPlot"  # other people's code is in a folder of its own


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
        alt: what it shows, for those who do not see it.
    """

    kind: Literal["png", "svg"]
    content: bytes
    alt: str

    @property
    def address(self) -> str:
        """The picture as an address of its own content."""
        kind = {"png": "image/png", "svg": "image/svg+xml"}[self.kind]
        return f"data:{kind};base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True)
class Shown:
    """An artifact that a page shows whole.

    Attributes:
        command: trains all that it needs.
        commands: for each (row, column).
        pictures: of the paper's figure, from our runs.
    """

    findings: Findings
    command: str
    commands: Mapping[tuple[str, str], Commands]
    pictures: Sequence[Picture] = ()

    @property
    def name(self) -> str:
        """Return the artifact's name."""
        return self.findings.value.artifact.name


@dataclass(frozen=True)
class Report:
    """The content of a page.

    Attributes:
        version: of this package.
        findings: of every artifact, for the overview.
        shown: those that are shown whole.
        beside: pictures that the paper does not have.
    """

    version: str
    findings: Sequence[Findings]
    shown: Sequence[Shown]
    claims: Sequence[ClaimVerdict] = ()
    beside: Sequence[Picture] = ()


def make_page(report: Report) -> str:
    """Return a page with everything in it: styles, scripts, pictures and data.

    The same report gives the same bytes. Nothing is loaded, and no script but the page's own
    runs, whatever names the database holds.
    """
    shown = [one.findings for one in report.shown]
    grids = [make_grid(one.value) for one in shown]
    scripts, styles = _contents(SCRIPTS), _contents(STYLES)
    return template("page.html.j2").render(
        report=report,
        detailed=[one.name for one in report.shown],
        artifacts=[*map(_artifact, report.shown, grids)],
        conditions=overview.conditions,
        provenance=overview.provenance(shown),
        newest=overview.newest(shown),
        states=overview.states(shown),
        claims=[
            (heading, claims, overview.tally(claims))
            for heading, claims in (
                ("What the paper claims", [one for one in report.claims if one.of_paper]),
                ("What controls ask beside", [one for one in report.claims if not one.of_paper]),
            )
            if claims
        ],
        marks=overview.VERDICTS,
        data=as_script(page_data(report.shown, grids)),
        scripts=[Markup(text) for text in scripts],  # noqa: S704
        styles=[Markup(text) for text in styles],  # noqa: S704
        policy=_policy(scripts, styles),
        licence=(_folder(OTHERS) / "uPlot.LICENSE").read_text(encoding="utf-8"),
        zip=zip,
        sort_key=sort_key,
        effect_with_interval=effect_with_interval,
        explained=explained,
        p_values=p_values,
        with_images=with_images,
        records_of=lambda verdict: verdict_records([verdict]),
    )


def _artifact(shown: Shown, grid: Grid) -> dict[str, Any]:
    """Return what the template of an artifact needs."""
    findings, artifact = shown.findings, shown.findings.value.artifact
    heading = f"{artifact.label}. {artifact.paper.title}"
    entries = [entry for entry in artifact.entries if entry.shown]
    cells = [
        cell
        for row in grid.rows
        for group in row.groups
        for heading_, cell in zip(grid.headings, group, strict=True)
        if heading_.whose == "ours"
    ]
    return {
        "name": artifact.name,
        "heading": heading,
        "warning": grid.title.removeprefix(heading).strip(" ()"),
        "grid": grid,
        "kinds": {one.whose for one in grid.headings} | {c.cell.status for c in cells if c.cell},
        "has_runs": bool(findings.runs),
        "has_curves": any(one.history.epochs for one in findings.behind),
        "command": shown.command,
        "commands": [(one.label, shown.commands[one.row, one.column]) for one in entries],
        "pictures": shown.pictures,
    }


def sort_key(text: str) -> str:
    """Return the number that a text begins with; empty, which sorts last, where there is none."""
    number = re.match(r"↓?([-+]?\d+(?:\.\d+)?)", text)
    return number[1] if number else ""


def _contents(names: Sequence[str]) -> list[str]:
    return [(_folder(name) / name).read_text(encoding="utf-8").strip() for name in names]


def _folder(name: str) -> Any:
    package = files("dia_repro.rendering")
    return package / "assets" if name.startswith(OTHERS) else package / "html" / "assets"


def _policy(scripts: Sequence[str], styles: Sequence[str]) -> str:
    """Return a Content-Security-Policy: nothing is loaded, and only our own inline code runs."""
    ours = {"script-src": scripts, "style-src": styles}
    allowed = [f"{kind} {' '.join(map(_hash, texts))}" for kind, texts in ours.items()]
    return "; ".join(["default-src 'none'", "img-src data:", *allowed, "base-uri 'none'"])


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
