"""`show`, `explain`, `claims` and `report`: results as people and programs read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Group
from typer import Argument, Option

from dia_repro.claims.verdicts import RECORD_FIELDS, ClaimVerdict, Epoch, Verdict, verdict_records
from dia_repro.cli import options
from dia_repro.cli.environment import own_command
from dia_repro.cli.output import emit, notice, stdout
from dia_repro.cli.progress import Terminal
from dia_repro.errors import UsageError
from dia_repro.execution.options import command_line
from dia_repro.experiments.names import Protocol
from dia_repro.rendering.layout import Layout
from dia_repro.reports.options import Folders

if TYPE_CHECKING:
    from dia_repro.reports.chosen import Chosen
    from dia_repro.results.database import Database


def choose(
    names: list[str] | None, selection: options.Selection, database: Database, data: Path
) -> Chosen:
    """Return artifacts by their names, and the controls that have runs where none is named."""
    from dia_repro.reports.chosen import Chosen

    return Chosen(names, selection, database, data, Terminal())


@options.with_options
def show(
    artifacts: options.Artifacts,
    selection: options.Selection,
    layout: Layout,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    origin: options.OriginOption = None,
    data: options.DataFolder = options.DEFAULT_DATA,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Print a table: the paper's figures, and ours from the runs in the database.

    --columns, --metrics and --trained are for people: csv and json have everything.

    Example: dia-repro show table5 --format csv
    """
    from dia_repro.rendering.cells import CELL_FIELDS, cell_records
    from dia_repro.rendering.grid import make_grid
    from dia_repro.rendering.tables import to_terminal

    chosen = choose(artifacts, selection, options.open_results(db, origin=origin), data)
    values = [chosen.told(artifact) for artifact in chosen.artifacts]
    records = [record for value in values for record in cell_records(value)]
    tables = Group(*(to_terminal(make_grid(value, layout)) for value in values))
    emit(format_, CELL_FIELDS, records, tables)


@options.with_options
def explain(
    selection: Annotated[options.Selection, options.EXPLAINED],
    artifact: str = Argument(help="A table or figure of the paper, e.g. table5."),
    row: str = Argument(help="The cell's row, e.g. ResNet164; a part will do."),
    column: str = Argument(help="Its column, e.g. DIANet; row and column in either order."),
    metric: str | None = Argument(
        None, help="One of its values, e.g. top1_last; by default all.", metavar="METRIC"
    ),
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    data: options.DataFolder = options.DEFAULT_DATA,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Say which runs, seeds and epochs a cell of a table comes from, and how to train them.

    As csv or json: one record for each value and run.

    Example: dia-repro explain table5 DIANet 164
    """
    from dia_repro.rendering.explanations import EXPLANATION_FIELDS, explanation_records, to_people
    from dia_repro.reports.chosen import training_command

    database = options.open_results(db, must_exist=False)
    chosen = choose([artifact], selection, database, data)
    found, places = chosen.explain(row, column, metric), chosen.places
    commands = {
        experiment.spec.spec_id: training_command(found.value, experiment, selection, **places)
        for experiment in found.experiments.values()
    }
    records = explanation_records(found, commands)

    def again(run: int) -> str:
        return command_line("runs again", str(run), **places)

    emit(format_, EXPLANATION_FIELDS, records, to_people(found, commands, again))


@options.with_options
def report(
    selection: options.Selection,
    layout: Layout,
    folders: Folders,
    artifacts: options.AnyArtifacts = None,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    checkpoints: options.CheckpointsOption = None,
    data: options.DataFolder = options.DEFAULT_DATA,
    html: Path = Option("report.html", help="A page with all of it, which opens from disk."),
    no_html: bool = Option(False, "--no-html", help="Write no such page."),
    replace_others: bool = Option(
        False,
        "--replace",
        help="Replace results of another protocol, data set or schedule; remove pictures of those "
        "that nothing replaces.",
    ),
    bundle: Path | None = Option(
        None,
        help="Also a ZIP file for a paper's supplement: these files, the database and versions.",
        metavar="FILE.zip",
    ),
    weights: bool = Option(
        False, "--weights", help="Into the bundle also the weights of each run, where they are."
    ),
) -> None:
    """Print tables and write them as CSV, Markdown and LaTeX; draw figures as PDF, PNG and SVG.

    Figures that the paper does not have: learning curves of each artifact's runs, Table 8's
    training loss until it diverges, and accuracy against parameters (Tables 3 to 5).

    --columns, --metrics and --trained choose what Markdown and LaTeX show; CSV has everything.
    All of it, with the runs behind each cell and their learning curves, is in report.html, too.

    Example: dia-repro report table5
    """
    from dia_repro.rendering.tables import to_terminal
    from dia_repro.reports.report import Report

    if weights and not bundle:
        raise UsageError("--weights goes with --bundle FILE.zip")
    chosen = choose(artifacts, selection, options.open_results(db), data)
    page = None if no_html else html
    Report(
        chosen,
        layout,
        folders,
        page,
        checkpoints,
        own_command(),
        lambda grid: stdout().print(to_terminal(grid)),
    ).write(replace_others=replace_others, bundle=bundle, weights=weights)


@options.with_options
def claims(
    selection: Annotated[options.Selection, options.JUDGED],
    artifacts: options.AnyArtifacts = None,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    origin: options.OriginOption = None,
    data: options.DataFolder = options.DEFAULT_DATA,
    by: Epoch = Option(Epoch.BEST, help="Epoch whose test accuracy counts."),
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Judge each claim of the paper by the runs in the database; trains nothing.

    Questions of controls are judged, too, and named as such: experiments of ours that separate
    explanations of the paper's results. A claim's reason says what its controls leave of them.

    Supported: in every comparison the 95 % interval over paired seeds is on the claim's side.
    Refuted: in one of them it is on the other side, and p ≤ 0.05 after Holm. At least three seeds
    decide, up to five by Student's t test, from six on by sign flips; whether a network trains or
    diverges, at least six.

    As csv or json: one record for each comparison.

    Example: dia-repro claims --protocol demo
    """
    from dia_repro.rendering.claims import claims_table
    from dia_repro.rendering.grid import differences_in_words
    from dia_repro.results.queries import mixed_environments

    chosen = choose(artifacts, selection, options.open_results(db, origin=origin), data)
    verdicts = chosen.claims(by)
    records = verdict_records(verdicts)
    emit(format_, RECORD_FIELDS, records, claims_table(records))
    _sum_up(verdicts, artifacts or ["all"], chosen)
    specs = [artifact.specs(chosen.request(artifact)) for artifact in chosen.artifacts]
    ids = [spec.spec_id for of_artifact in specs for spec in of_artifact.values()]
    for sentence in differences_in_words(mixed_environments(chosen.database, ids)):
        notice(sentence)


def _sum_up(
    verdicts: Sequence[ClaimVerdict],
    artifacts: Sequence[str],
    chosen: Chosen,
) -> None:
    """Print the number of claims with each verdict, and what they rest on."""
    for what, of_paper in (
        ("claims", True),
        ("questions and claims that are not the paper's", False),
    ):
        counts = Counter(claim.verdict for claim in verdicts if claim.of_paper is of_paper)
        said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict)
        if counts:
            notice(f"{counts.total()} {what}: {said}.")
    judged = [claim for claim in verdicts if claim.verdict is not Verdict.NOT_RUN]
    foreign = [claim for claim in judged if not claim.papers_own]
    if foreign:
        protocols = " and ".join(dict.fromkeys(c.conditions.split(",")[0] for c in foreign))
        notice(
            f"Not based on the paper's data and schedule ({protocols}): {len(foreign)} of these "
            "verdicts. They show how the claims fare there, not whether the paper holds."
        )
    if len(judged) < len(verdicts) and not chosen.database.origin:
        # Where nothing was chosen, verdicts are by the protocol that the database has.
        named = {claim.conditions.partition(" protocol")[0] for claim in judged} & {*Protocol}
        known = Protocol(*named) if len(named) == 1 else None
        asked = replace(chosen.selection, protocol=chosen.selection.protocol or known)
        command = command_line("run", *artifacts, options=asked, **chosen.places)
        notice(f"What is not run is trained by: {command}")
