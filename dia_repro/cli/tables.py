"""`show` prints an artifact; `report` writes its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, assert_never

import typer

from dia_repro.cli import options
from dia_repro.cli.output import emit, notice, stdout
from dia_repro.cli.requests import choose_data, open_results, repeated
from dia_repro.errors import DiaReproError

if TYPE_CHECKING:
    from dia_repro.artifacts import TableArtifact, TableValue
    from dia_repro.artifacts.explanation import Findings
    from dia_repro.artifacts.selection import Wanted
    from dia_repro.claims.evaluate import ClaimVerdict
    from dia_repro.results.database import Database


def show(
    artifact: Annotated[str, typer.Argument(help="A table or figure of the paper, e.g. table5.")],
    protocol: options.ShownProtocol = None,
    seeds: options.ShownSeeds = None,
    epochs: options.Epochs = None,
    dataset: options.Dataset = None,
    image_size: options.ImageSize = None,
    precision: options.ShownPrecision = None,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    data: options.DataFolder = options.DEFAULT_DATA,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Print a table: the paper's figures, and ours from the runs in the database.

    Example: dia-repro show table5 --format csv
    """
    from dia_repro.artifacts import choose
    from dia_repro.artifacts.selection import Wanted
    from dia_repro.rendering.cells import CELL_FIELDS, cell_records
    from dia_repro.rendering.grid import make_grid
    from dia_repro.rendering.tables import to_terminal

    chosen = choose([artifact])
    database = open_results(db)
    own = choose_data(dataset, image_size, data, database=database)
    wanted = Wanted(protocol, precision, own, epochs)
    asked = repeated(
        {
            "--epochs": epochs,
            "--dataset": dataset,
            "--image-size": image_size,
            "--precision": precision,
        }
    )
    for one in chosen:
        value = _compute(one, database, wanted, seeds, asked)
        emit(format_, CELL_FIELDS, cell_records(value), to_terminal(make_grid(value)))


def report(
    artifacts: Annotated[
        list[str] | None,
        typer.Argument(help="Tables or figures of the paper, e.g. table5; by default all."),
    ] = None,
    protocol: options.ShownProtocol = None,
    seeds: options.ShownSeeds = None,
    epochs: options.Epochs = None,
    dataset: options.Dataset = None,
    image_size: options.ImageSize = None,
    precision: options.ShownPrecision = None,
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
    from dia_repro.artifacts import choose
    from dia_repro.artifacts.explanation import gather
    from dia_repro.artifacts.selection import Wanted
    from dia_repro.artifacts.sizes import TABLES, sizes
    from dia_repro.cli.pictures import draw_accuracies, draw_curves, drawing

    chosen = choose(artifacts or ["all"])
    database = open_results(db)
    own = choose_data(dataset, image_size, data, database=database)
    wanted = Wanted(protocol, precision, own, epochs)
    asked = repeated(
        {
            "--epochs": epochs,
            "--dataset": dataset,
            "--image-size": image_size,
            "--precision": precision,
        }
    )
    findings: dict[str, Findings] = {}
    drawn: dict[str, list[Path]] = {}
    with drawing() as pictures:
        for one in chosen:
            value = _compute(one, database, wanted, seeds, asked)
            findings[one.name] = gather(one, database, value)
            draw_curves(pictures, figures, findings[one.name])
            _write_table(one, value, figures if one.is_figure else tables)
            if one.is_figure:
                drawn[one.name] = _draw(one, value, database, data, figures, checkpoints)
        if {table.name for table in TABLES} & findings.keys():
            draw_accuracies(pictures, figures, sizes(database, wanted, seeds))
        claims: tuple[ClaimVerdict, ...] = ()
        if not no_html:  # meanwhile, for it takes as long
            from dia_repro.claims.evaluate import evaluate_claims

            claims = evaluate_claims(database, wanted)
        beside = pictures.write()
    if not no_html:
        from dia_repro.cli.page import write_page

        write_page(html, database, wanted, seeds, findings, claims, drawn, beside)


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


def _draw(
    artifact: TableArtifact,
    value: TableValue,
    database: Database,
    data: Path,
    figures: Path,
    checkpoints: str | None,
) -> list[Path]:
    """Draw a figure from the best run of each of its networks, where there are any.

    Gives its picture.
    """
    from dia_repro.artifacts import Drawing
    from dia_repro.cli.gradients import draw_gradients
    from dia_repro.cli.integration import draw_integration
    from dia_repro.results.queries import runs_of
    from dia_repro.results.schema import State

    specs = [entry.spec(value.request).spec_id for entry in artifact.entries]
    runs = []
    for found in runs_of(database, specs).values():
        finished = [run for run in found if run.state is State.FINISHED]
        if finished:
            runs.append(max(finished, key=lambda run: run.best_top1 or 0.0).id)
    if not runs:
        return []
    try:
        for drawing in artifact.drawings:
            match drawing:
                case Drawing.HEATMAP:
                    draw_integration(database, data, figures, checkpoints, runs[0])
                case Drawing.HISTOGRAMS:
                    draw_gradients(database, figures, runs)
                case Drawing.ACCURACY | Drawing.LOSS:  # learning curves: `draw_curves`
                    pass
                case _:
                    assert_never(drawing)
    except DiaReproError as error:  # the other artifacts are to be had all the same
        notice(f"{artifact.name} is not drawn: {error}")
        return []
    return [figures / f"{artifact.name}.png"]


def _compute(
    artifact: TableArtifact, database: Database, wanted: Wanted, seeds: int | None, asked: str
) -> TableValue:
    from dia_repro.artifacts.selection import best_covered

    request = best_covered(artifact, database, wanted)
    value = artifact.compute(database, request, seeds)
    if not any(cell.n or cell.diverged for cell in value.cells):
        notice(
            f"No finished runs for {artifact.name} in {database.name} yet: "
            f"dia-repro run {artifact.name} --protocol {request.protocol.value}{asked}"
        )
    return value
