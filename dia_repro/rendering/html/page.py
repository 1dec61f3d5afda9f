"""The report as one page that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dia_repro.artifacts.explanation import Findings
from dia_repro.rendering.claims import with_more_seeds
from dia_repro.rendering.grid import Grid, make_grid
from dia_repro.rendering.html import grids, overview
from dia_repro.rendering.html.data import as_script, page_data
from dia_repro.rendering.html.values import Picture, Report

SCRIPTS = ("uPlot.iife.min.js", "page.js", "tables.js", "details.js", "curves.js")
STYLES = ("uPlot.min.css", "page.css", "parts.css")
OTHERS = "uPlot"  # other people's code stands in a folder of its own


def make_page(report: Report) -> str:
    """A page with everything in it: styles, scripts, pictures and data.

    The same report gives the same bytes. Nothing is loaded, and no script but the page's own
    runs, whatever names the database holds.
    """
    shown = [one for one in report.findings if one.artifact.name in report.detailed]
    drawn = [(one, make_grid(one.value)) for one in shown]
    scripts, styles = _contents(SCRIPTS), _contents(STYLES)
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            report=report,
            glances=[
                overview.glance(one, report.whole[one.artifact.name]) for one in report.findings
            ],
            artifacts=[_artifact(report, *one) for one in drawn],
            beside=[(_address(one), one.alt) for one in report.beside],
            surroundings=overview.surroundings(shown),
            kinds=overview.KINDS,
            newest=overview.newest(shown),
            states=overview.states(shown),
            tally=overview.tally(report.claims),
            marks=overview.VERDICTS,
            evidence_cells=overview.evidence_cells,
            with_more_seeds=with_more_seeds,
            data=as_script(page_data(report, drawn)),
            scripts=[Markup(text) for text in scripts],  # noqa: S704
            styles=[Markup(text) for text in styles],  # noqa: S704
            policy=_policy(scripts, styles),
            licence=(_folder(OTHERS) / "uPlot.LICENSE").read_text(encoding="utf-8"),
        )
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("dia_repro.rendering.html", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _artifact(report: Report, findings: Findings, grid: Grid) -> dict[str, Any]:
    """What the template of an artifact needs."""
    value, name = findings.value, findings.artifact.name
    heading = f"{value.label}. {value.paper.title}"
    lines = grids.lines(grid, value)
    entries = [one.entry for one in findings.experiments.values() if one.entry.shown]
    return {
        "name": name,
        "heading": heading,
        "warning": grid.title.removeprefix(heading).strip(" ()"),
        "grid": grid,
        "headings": grids.headings(grid),
        "lines": lines,
        "kinds": {
            kind for line in lines for slot in line.slots for kind in (slot.whose, slot.state)
        },
        "has_runs": bool(findings.runs),
        "has_curves": any(one.history.epochs for one in findings.behind),
        "command": report.whole[name],
        "commands": [(one.label, report.commands[name, one.row, one.column]) for one in entries],
        "pictures": [(_address(one), one.alt) for one in report.pictures.get(name, ())],
    }


def _address(picture: Picture) -> str:
    kind = {"png": "image/png", "svg": "image/svg+xml"}[picture.kind]
    return f"data:{kind};base64,{base64.b64encode(picture.content).decode()}"


def _contents(names: Sequence[str]) -> list[str]:
    return [(_folder(name) / name).read_text(encoding="utf-8").strip() for name in names]


def _folder(name: str) -> Any:
    package = files("dia_repro.rendering")
    return package / "assets" if name.startswith(OTHERS) else package / "html" / "assets"


def _policy(scripts: Sequence[str], styles: Sequence[str]) -> str:
    """A Content-Security-Policy: nothing from anywhere, and of what is inline only our own."""
    ours = {"script-src": scripts, "style-src": styles}
    allowed = [f"{kind} {' '.join(map(_hash, texts))}" for kind, texts in ours.items()]
    return "; ".join(["default-src 'none'", "img-src data:", *allowed, "base-uri 'none'"])


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
