"""`report` writes tables, figures and `report.html`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, assert_never

from typer import Option

from dia_repro.cli import options
from dia_repro.cli.drawing import Pictures, drawing
from dia_repro.cli.output import notice, stdout
from dia_repro.cli.pictures import draw_curves, draw_gradients, draw_integration
from dia_repro.cli.results import Chosen, training_command
from dia_repro.errors import DiaReproError
from dia_repro.execution.options import Selection, command_line
from dia_repro.rendering.layout import Layout

if TYPE_CHECKING:
    from dia_repro.artifacts import TableArtifact, TableValue
    from dia_repro.artifacts.explanation import Findings
    from dia_repro.artifacts.selection import Wanted
    from dia_repro.claims.verdicts import ClaimVerdict
    from dia_repro.rendering.html.page import Picture, Shown

SIZES, SCALE = "accuracy-parameters", "initial-scale"
BESIDE = {
    SIZES: "Accuracy against parameters, Tables 3 to 5: the paper's and ours",
    SCALE: "Without batch normalisation: accuracy by the initial scale of residual branches",
    "table8-loss": "Table 8: training loss without batch normalisation, until it diverges",
}


@options.with_options
def report(
    selection: options.Selection,
    layout: Layout,
    artifacts: options.AnyArtifacts = None,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    checkpoints: options.CheckpointsOption = None,
    data: options.DataFolder = options.DEFAULT_DATA,
    tables: Annotated[Path, Option(help="Folder for table5.csv, table5.md, table5.tex, …")] = Path(
        "tables"
    ),
    figures: Annotated[
        Path, Option(help="Folder for figure5.pdf, table5-curves.pdf, …")
    ] = options.FIGURES,
    html: Annotated[Path, Option(help="A page with all of it, which opens from disk.")] = Path(
        "report.html"
    ),
    no_html: Annotated[bool, Option("--no-html", help="Write no such page.")] = False,
    replace_others: Annotated[
        bool,
        Option("--replace", help="Replace tables of another protocol, data set or schedule."),
    ] = False,
) -> None:
    """Print tables and write them as CSV, Markdown and LaTeX; draw figures as PDF, PNG and SVG.

    Beside the paper's figures: learning curves of each artifact's runs, Table 8's training loss
    until it diverges, and accuracy against parameters (Tables 3 to 5).

    --columns, --metrics and --trained choose what Markdown and LaTeX show; CSV has everything.
    All of it, with the runs behind each cell and their learning curves, is in report.html, too.

    Example: dia-repro report table5
    """
    from dia_repro.artifacts import ARTIFACTS
    from dia_repro.artifacts.controls import NORM
    from dia_repro.artifacts.sizes import TABLES, sizes
    from dia_repro.claims.evaluate import evaluate_claims
    from dia_repro.rendering.files import check_target
    from dia_repro.rendering.initial_scale import draw_initial_scale, scaled
    from dia_repro.rendering.sizes import draw_sizes

    if not no_html:
        check_target(html)
    chosen = Chosen(artifacts, selection, options.open_results(db), data)
    _check_replaced(chosen, tables, figures, replace_others=replace_others)
    with drawing() as pictures:
        findings, drawn = _write_artifacts(pictures, chosen, layout, tables, figures, checkpoints)
        if any(table.name in findings for table in TABLES):
            values = sizes(chosen.database, chosen.wanted, selection.seeds)
            pictures.draw(figures / SIZES, draw_sizes, values)
        if NORM.name in findings and scaled(findings[NORM.name]):
            pictures.draw(figures / SCALE, draw_initial_scale, findings[NORM.name])
        pictures.begin()
        # Meanwhile, for it takes as long.
        verdicts = () if no_html else evaluate_claims(chosen.database, chosen.wanted)
        claims = [one for one in verdicts if one.artifact in {*findings, *ARTIFACTS}]
        beside = pictures.write()
    if not no_html:
        write_page(html, chosen, findings, claims, drawn, beside)


def _write_artifacts(
    pictures: Pictures,
    chosen: Chosen,
    layout: Layout,
    tables: Path,
    figures: Path,
    checkpoints: str | None,
) -> tuple[dict[str, Findings], dict[str, Path]]:
    """Write tables and figures; return by artifact what was found, and the figures' PNG files."""
    from dia_repro.artifacts import Drawing
    from dia_repro.artifacts.explanation import gather

    findings: dict[str, Findings] = {}
    drawn: dict[str, Path] = {}
    for artifact in chosen.artifacts:
        found = gather(chosen.database, chosen.compute(artifact))
        findings[artifact.name] = found
        draw_curves(pictures, figures, found)
        _write_table(found.value, layout, _table_of(artifact, tables, figures))
        has_picture = artifact.is_figure or Drawing.HISTOGRAMS in artifact.drawings
        if has_picture and _draw(found, chosen, figures, checkpoints):
            drawn[artifact.name] = figures / f"{artifact.name}.png"
    return findings, drawn


def _table_of(artifact: TableArtifact, tables: Path, figures: Path) -> Path:
    """Return where an artifact's table is written, without the suffix."""
    if artifact.is_figure:
        return figures / f"{artifact.name}-networks"
    return tables / artifact.name


def _check_replaced(chosen: Chosen, tables: Path, figures: Path, *, replace_others: bool) -> None:
    """Refuse to write over tables of other experiments, or say that they are replaced."""
    from dia_repro.rendering.cells import ReplacedError, is_another

    found = []
    for artifact in chosen.artifacts:
        request = artifact.as_usual(chosen.request(artifact))
        path = _table_of(artifact, tables, figures).with_suffix(".csv")
        if is_another(path, artifact.specs(request)):
            found.append(str(path))
    what = "of another protocol, data set, schedule or precision"
    if found and not replace_others:
        raise ReplacedError(
            f"{', '.join(found)}: results {what} are there. Name other folders with --tables and "
            "--figures, or add --replace"
        )
    if found:
        notice(f"Replaced, {what}: {', '.join(found)}")


def _write_table(value: TableValue, layout: Layout, target: Path) -> None:
    """Print a table, and write it in every kind of file."""
    from dia_repro.rendering.cells import CELL_FIELDS, cell_records
    from dia_repro.rendering.files import write_text
    from dia_repro.rendering.grid import make_grid
    from dia_repro.rendering.records import to_csv
    from dia_repro.rendering.tables import to_latex, to_markdown, to_terminal

    grid = make_grid(value, layout)
    stdout().print(to_terminal(grid))
    files = {
        "csv": to_csv(CELL_FIELDS, cell_records(value)),
        "md": to_markdown(grid),
        "tex": to_latex(grid),
    }
    for suffix, text in files.items():
        write_text(target.with_suffix(f".{suffix}"), text)
    notice(f"Written: {target}.{{csv,md,tex}}")


def _draw(findings: Findings, chosen: Chosen, figures: Path, checkpoints: str | None) -> bool:
    """Draw a figure from the best run of each of its networks; return whether there is one.

    Artifacts that cannot be drawn are no obstacle to the others.
    """
    from dia_repro.artifacts import Drawing

    artifact = findings.value.artifact
    runs = [best.id for one in findings.experiments.values() if (best := one.best_run)]
    if not runs:
        return False
    try:
        for drawing in artifact.drawings:
            match drawing:
                case Drawing.HEATMAP:
                    draw_integration(chosen.database, chosen.data, figures, checkpoints, runs[0])
                case Drawing.HISTOGRAMS:
                    draw_gradients(chosen.database, figures, runs, artifact)
                case Drawing.ACCURACY | Drawing.LOSS:  # learning curves: `draw_curves`
                    pass
                case _:
                    assert_never(drawing)
    except DiaReproError as error:
        notice(f"{artifact.name} is not drawn: {error}")
        return False
    return True


def write_page(
    path: Path,
    chosen: Chosen,
    detailed: Mapping[str, Findings],
    claims: Sequence[ClaimVerdict],
    drawn: Mapping[str, Path],
    beside: Sequence[Path] = (),
) -> None:
    """Write the page.

    Args:
        detailed: by artifact, those that are shown whole; the overview has all of them.
        drawn: by artifact, the PNG files of the paper's figures.
        beside: those of pictures beside the paper's own. Those on the page's own charts are left
            out.
    """
    import dia_repro
    from dia_repro.artifacts import ARTIFACTS
    from dia_repro.artifacts.explanation import gather
    from dia_repro.rendering.files import write_text
    from dia_repro.rendering.html.page import make_page

    page = make_page(
        version=dia_repro.__version__,
        findings=[
            *(
                detailed.get(name) or gather(chosen.database, chosen.value(artifact))
                for name, artifact in ARTIFACTS.items()
            ),
            *(found for name, found in detailed.items() if name not in ARTIFACTS),
        ],
        shown=[_shown(one, chosen.wanted, drawn.get(name)) for name, one in detailed.items()],
        claims=claims,
        beside=[_picture(file, BESIDE[file.stem]) for file in beside if file.stem in BESIDE],
    )
    write_text(path, page)
    notice(f"Written: {path}")


def _shown(findings: Findings, wanted: Wanted, picture: Path | None) -> Shown:
    """Return an artifact with its picture, and the commands that train and explain its cells."""
    from dia_repro.rendering.html.page import Commands, Shown

    value, artifact = findings.value, findings.value.artifact
    data = wanted.data.spec if wanted.data else None
    selection = Selection(
        epochs=wanted.epochs,
        precision=wanted.precision,
        # A user's images by name, not by a path of this machine.
        dataset=data.dataset if data else None,
        image_size=data.image_size if data and data.content_hash is not None else None,
        attention=tuple(attention.text for attention in artifact.attention),
    )
    seeds = value.seeds
    explained = replace(
        selection, protocol=value.request.protocol, seeds=seeds if seeds.chosen else None
    )
    whole = replace(explained, seeds=seeds if seeds.numbers != (0,) else None)
    alt = f"{artifact.label}. {artifact.paper.title}, from our runs"
    return Shown(
        findings,
        command_line("run", artifact.name, options=whole),
        {
            place: Commands(
                training_command(value, experiment, selection),
                command_line("explain", artifact.name, *place, options=explained),
            )
            for place, experiment in findings.experiments.items()
        },
        [_picture(picture, alt)] if picture else [],
    )


def _picture(file: Path, alt: str) -> Picture:
    """Return the SVG beside a PNG where that is the smaller one: it is sharp at any size."""
    from dia_repro.rendering.html.page import Picture

    drawing = file.with_suffix(".svg")
    if drawing.exists() and drawing.stat().st_size < file.stat().st_size:
        return Picture("svg", drawing.read_bytes(), alt)
    return Picture("png", file.read_bytes(), alt)
