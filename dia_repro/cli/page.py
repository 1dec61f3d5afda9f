"""`report.html`, from what the database holds to its file."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dia_repro.cli.explain import command_to_train
from dia_repro.cli.output import notice
from dia_repro.cli.requests import repeated

if TYPE_CHECKING:
    from dia_repro.artifacts import TableValue
    from dia_repro.artifacts.explanation import Experiment, Findings
    from dia_repro.artifacts.selection import Wanted
    from dia_repro.claims.verdicts import ClaimVerdict
    from dia_repro.rendering.html import Commands, Picture
    from dia_repro.results.database import Database

BESIDE = {
    "accuracy-parameters": "Accuracy against parameters, Tables 3 to 5: the paper's and ours",
    "table8-loss": "Table 8: training loss without batch normalisation, until it diverges",
}


def write_page(
    path: Path,
    database: Database,
    wanted: Wanted,
    seeds: int | None,
    detailed: Mapping[str, Findings],
    claims: Sequence[ClaimVerdict],
    drawn: Mapping[str, Sequence[Path]],
    beside: Sequence[Path] = (),
) -> None:
    """Write the page.

    Args:
        wanted, seeds: as the findings were asked for.
        detailed: by artifact, those that are shown whole; the overview has all of them.
        drawn: by artifact, the PNG files of the paper's figures.
        beside: those of pictures beside the paper's own.
    """
    import dia_repro
    from dia_repro.artifacts import ARTIFACTS
    from dia_repro.artifacts.explanation import gather
    from dia_repro.artifacts.selection import best_covered
    from dia_repro.rendering.files import write_text
    from dia_repro.rendering.html import Report, make_page

    findings = []
    for name, artifact in ARTIFACTS.items():
        known = detailed.get(name)
        if known is None:
            request = best_covered(artifact, database, wanted)
            known = gather(artifact, database, artifact.compute(database, request, seeds))
        findings.append(known)
    report = Report(
        version=dia_repro.__version__,
        findings=tuple(findings),
        detailed=tuple(detailed),
        commands={
            (one.artifact.name, *place): _commands(one, experiment, wanted)
            for one in findings
            for place, experiment in one.experiments.items()
        },
        whole={one.artifact.name: _whole(one, wanted) for one in findings},
        claims=tuple(claims),
        pictures={
            name: tuple(_pictures(detailed[name].value, files)) for name, files in drawn.items()
        },
        beside=tuple(_beside(beside)),
    )
    write_text(path, make_page(report))
    notice(f"Written: {path}")


def _asked(wanted: Wanted, *, precision: bool) -> str:
    # The user's own images by their name, not by where they lie on this machine.
    data = wanted.data.spec if wanted.data else None
    own = data is not None and data.content_hash is not None
    return repeated(
        {
            "--epochs": wanted.epochs,
            "--dataset": data.dataset if data else None,
            "--image-size": data.image_size if data and own else None,
            "--precision": wanted.precision if precision else None,
        }
    )


def _commands(findings: Findings, experiment: Experiment, wanted: Wanted) -> Commands:
    from dia_repro.rendering.html import Commands

    name, value, entry = findings.artifact.name, findings.value, experiment.entry
    train = command_to_train(
        name, value.request, value.seeds, experiment, _asked(wanted, precision=False)
    )
    place = shlex.join([name, entry.row, entry.column])
    protocol = value.request.protocol.value
    asked = _asked(wanted, precision=True)
    return Commands(train, f"dia-repro explain {place} --protocol {protocol}{asked}")


def _whole(findings: Findings, wanted: Wanted) -> str:
    value = findings.value
    seeds = f" --seeds {value.seeds}" if value.seeds > 1 else ""
    protocol = value.request.protocol.value
    asked = _asked(wanted, precision=True)
    return f"dia-repro run {findings.artifact.name} --protocol {protocol}{seeds}{asked}"


def _pictures(value: TableValue, files: Sequence[Path]) -> Iterator[Picture]:
    for file in files:
        yield _picture(file, f"{value.label}. {value.paper.title}, from our runs")


def _picture(file: Path, alt: str) -> Picture:
    """The SVG beside a PNG where that is the smaller one: it is sharp at any size."""
    from dia_repro.rendering.html import Picture

    drawing = file.with_suffix(".svg")
    if drawing.exists() and drawing.stat().st_size < file.stat().st_size:
        return Picture("svg", drawing.read_bytes(), alt)
    return Picture("png", file.read_bytes(), alt)


def _beside(files: Sequence[Path]) -> Iterator[Picture]:
    """What is drawn on the page's own charts is left out, and so is what has no words yet."""
    for file in files:
        if file.stem in BESIDE:
            yield _picture(file, BESIDE[file.stem])
