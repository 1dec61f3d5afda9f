"""`report` writes tables, figures and `report.html`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, assert_never

import typer

from dia_repro.cli import options
from dia_repro.cli.explain import training_command
from dia_repro.cli.output import notice, stdout
from dia_repro.cli.pictures import (
    Pictures,
    draw_accuracies,
    draw_curves,
    draw_gradients,
    draw_integration,
    drawing,
)
from dia_repro.cli.tables import Results
from dia_repro.errors import DiaReproError
from dia_repro.execution.options import Selection, command_line

if TYPE_CHECKING:
    from dia_repro.artifacts import TableArtifact, TableValue
    from dia_repro.artifacts.explanation import Experiment, Findings
    from dia_repro.artifacts.selection import Wanted
    from dia_repro.claims.verdicts import ClaimVerdict
    from dia_repro.rendering.html import Commands, Picture
    from dia_repro.results.database import Database

BESIDE = {
    "accuracy-parameters": "Accuracy against parameters, Tables 3 to 5: the paper's and ours",
    "table8-loss": "Table 8: training loss without batch normalisation, until it diverges",
}


@options.with_options
def report(
    selection: options.Selection,
    artifacts: options.AnyArtifacts = None,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    checkpoints: options.CheckpointsOption = None,
    data: options.DataFolder = options.DEFAULT_DATA,
    tables: Annotated[
        Path, typer.Option("--tables", help="Folder for table5.csv, table5.md, table5.tex, …")
    ] = Path("tables"),
    figures: Annotated[
        Path,
        typer.Option(
            "--figures",
            help="Folder for figure5.pdf, table5-curves.pdf, …",
        ),
    ] = Path("figures"),
    html: Annotated[
        Path, typer.Option("--html", help="A page with all of it, which opens from disk.")
    ] = Path("report.html"),
    no_html: Annotated[bool, typer.Option("--no-html", help="Write no such page.")] = False,
) -> None:
    """Print tables and write them as CSV, Markdown and LaTeX; draw figures as PDF, PNG and SVG.

    Beside the paper's figures: learning curves of each artifact's runs, Table 8's training loss
    until it diverges, and accuracy against parameters (Tables 3 to 5).

    All of it, with the runs behind each cell and their learning curves, is in report.html, too.

    Example: dia-repro report table5
    """
    from dia_repro.claims.evaluate import evaluate_claims

    results = Results(artifacts or ["all"], selection, db, data)
    to = Folders(tables, figures, checkpoints)
    findings: dict[str, Findings] = {}
    drawn: dict[str, list[Path]] = {}
    with drawing() as pictures:
        for artifact in results.artifacts:
            found = findings[artifact.name] = _write_artifact(artifact, results, to, pictures)
            if artifact.is_figure:
                drawn[artifact.name] = _draw(artifact, found.value, results, to)
        _draw_sizes(findings, results, to, pictures)
        # Meanwhile, for it takes as long.
        claims = () if no_html else evaluate_claims(results.database, results.wanted)
        beside = pictures.write()
    if not no_html:
        seeds = selection.seeds
        write_page(html, results.database, results.wanted, seeds, findings, claims, drawn, beside)


@dataclass(frozen=True)
class Folders:
    """Folders of a report's files, and the location of checkpoints."""

    tables: Path
    figures: Path
    checkpoints: str | None


def _write_artifact(
    artifact: TableArtifact, results: Results, to: Folders, pictures: Pictures
) -> Findings:
    """Print and write a table, and begin to draw its learning curves."""
    from dia_repro.artifacts.explanation import gather

    value = results.compute(artifact)
    found = gather(results.database, value)
    draw_curves(pictures, to.figures, found)
    _write_table(artifact, value, to.figures if artifact.is_figure else to.tables)
    return found


def _draw_sizes(
    findings: Collection[str], results: Results, to: Folders, pictures: Pictures
) -> None:
    from dia_repro.artifacts.sizes import TABLES, sizes

    if {table.name for table in TABLES} & set(findings):
        found = sizes(results.database, results.wanted, results.selection.seeds)
        draw_accuracies(pictures, to.figures, found)


def _write_table(artifact: TableArtifact, value: TableValue, folder: Path) -> None:
    """Print a table, and write it in every kind of file."""
    from dia_repro.rendering.cells import CELL_FIELDS, cell_records
    from dia_repro.rendering.files import write_text
    from dia_repro.rendering.grid import make_grid
    from dia_repro.rendering.records import to_csv
    from dia_repro.rendering.tables import to_latex, to_markdown, to_terminal

    grid = make_grid(value)
    stdout().print(to_terminal(grid))
    name = f"{artifact.name}-networks" if artifact.is_figure else artifact.name
    files = {
        "csv": to_csv(CELL_FIELDS, cell_records(value)),
        "md": to_markdown(grid),
        "tex": to_latex(grid),
    }
    for suffix, text in files.items():
        write_text(folder / f"{name}.{suffix}", text)
    notice(f"Written: {folder / name}.{{csv,md,tex}}")


def _draw(artifact: TableArtifact, value: TableValue, results: Results, to: Folders) -> list[Path]:
    """Draw a figure from the best run of each of its networks; gives its picture, if there is any.

    Artifacts that cannot be drawn are no obstacle to the others.
    """
    from dia_repro.artifacts import Drawing
    from dia_repro.results.queries import runs_of
    from dia_repro.results.schema import State

    specs = [entry.spec(value.request).spec_id for entry in artifact.entries]
    runs = []
    for found in runs_of(results.database, specs).values():
        finished = [run for run in found if run.state is State.FINISHED]
        if finished:
            runs.append(max(finished, key=lambda run: run.best_top1 or 0.0).id)
    if not runs:
        return []
    try:
        for drawing in artifact.drawings:
            match drawing:
                case Drawing.HEATMAP:
                    draw_integration(
                        results.database, results.data, to.figures, to.checkpoints, runs[0]
                    )
                case Drawing.HISTOGRAMS:
                    draw_gradients(results.database, to.figures, runs)
                case Drawing.ACCURACY | Drawing.LOSS:  # learning curves: `draw_curves`
                    pass
                case _:
                    assert_never(drawing)
    except DiaReproError as error:
        notice(f"{artifact.name} is not drawn: {error}")
        return []
    return [to.figures / f"{artifact.name}.png"]


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
            known = gather(database, artifact.compute(database, request, seeds))
        findings.append(known)
    report = Report(
        version=dia_repro.__version__,
        findings=tuple(findings),
        detailed=tuple(detailed),
        commands={
            (one.value.artifact.name, *place): _commands(one, experiment, wanted)
            for one in findings
            for place, experiment in one.experiments.items()
        },
        whole={one.value.artifact.name: _whole(one, wanted) for one in findings},
        claims=tuple(claims),
        pictures={
            name: tuple(_pictures(detailed[name].value, files)) for name, files in drawn.items()
        },
        beside=tuple(_beside(beside)),
    )
    write_text(path, make_page(report))
    notice(f"Written: {path}")


def _selection(wanted: Wanted, **chosen: Any) -> Selection:
    """Return options that choose the same; a user's images by name, not by a path of here."""
    data = wanted.data.spec if wanted.data else None
    own = data is not None and data.content_hash is not None
    return Selection(
        epochs=wanted.epochs,
        dataset=data.dataset if data else None,
        image_size=data.image_size if data and own else None,
        **{"precision": wanted.precision} | chosen,
    )


def _attention(findings: Findings) -> tuple[str, ...]:
    return tuple(attention.text for attention in findings.value.artifact.attention)


def _commands(findings: Findings, experiment: Experiment, wanted: Wanted) -> Commands:
    from dia_repro.rendering.html import Commands

    name, value, entry = findings.value.artifact.name, findings.value, experiment.entry
    chosen = _selection(wanted, attention=_attention(findings))
    train = training_command(value, experiment, chosen)
    chosen = replace(chosen, protocol=value.request.protocol)
    return Commands(train, command_line("explain", name, entry.row, entry.column, options=chosen))


def _whole(findings: Findings, wanted: Wanted) -> str:
    value = findings.value
    seeds = value.seeds if value.seeds > 1 else None
    chosen = _selection(
        wanted,
        protocol=value.request.protocol,
        seeds=seeds,
        attention=_attention(findings),
    )
    return command_line("run", findings.value.artifact.name, options=chosen)


def _pictures(value: TableValue, files: Sequence[Path]) -> Iterator[Picture]:
    for file in files:
        yield _picture(file, f"{value.artifact.label}. {value.artifact.paper.title}, from our runs")


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
