"""`show`, `explain` and `claims`: results in the database as people and programs read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from dia_repro.claims.verdicts import Epoch
from dia_repro.cli import options
from dia_repro.cli.output import emit, notice
from dia_repro.cli.progress import Terminal
from dia_repro.errors import UsageError
from dia_repro.execution.options import command_line
from dia_repro.experiments.names import Precision, Protocol
from dia_repro.rendering.layout import Layout

if TYPE_CHECKING:
    from dia_repro.artifacts import TableArtifact, TableValue
    from dia_repro.artifacts.explanation import Experiment
    from dia_repro.claims.verdicts import ClaimVerdict
    from dia_repro.experiments.protocols import Request
    from dia_repro.results.database import Database


class OneArtifactError(UsageError):
    """A cell is in one artifact."""


class Chosen:
    """Artifacts that a selection chooses, and the database with their results.

    Args:
        names: of artifacts; by default `all`, and the controls that have runs.
        data: folder of downloaded data sets.
    """

    def __init__(
        self,
        names: Sequence[str] | None,
        selection: options.Selection,
        database: Database,
        data: Path,
    ) -> None:
        from dia_repro.artifacts import choose
        from dia_repro.artifacts.selection import usual_names
        from dia_repro.execution.requests import find_data, narrowed, wanted

        choose(names or (), selection.attention)  # refused before folders are looked through
        self.selection, self.data, self.database = selection, data, database
        own = find_data(selection, data, Terminal(), database)
        self.wanted = wanted(selection, own)
        artifacts = choose(names or usual_names(database, self.wanted), selection.attention)
        self.artifacts = narrowed(artifacts, selection.only)

    def request(self, artifact: TableArtifact) -> Request:
        """Return the request that most runs of an artifact answer, as far as nothing is fixed."""
        from dia_repro.artifacts.selection import best_covered

        return best_covered(artifact, self.database, self.wanted)

    def value(self, artifact: TableArtifact) -> TableValue:
        """Return an artifact's cells."""
        return artifact.compute(self.database, self.request(artifact), self.selection.seeds)

    def compute(self, artifact: TableArtifact) -> TableValue:
        """Return an artifact's cells; says how to train its runs where there are none."""
        value = self.value(artifact)
        if not any(cell.n or cell.diverged for cell in value.cells):
            asked = replace(self.selection, protocol=value.request.protocol)
            notice(
                f"No finished runs for {artifact.name} in {self.database.name} yet: "
                f"{command_line('run', artifact.name, options=asked)}"
            )
        return value


@options.with_options
def show(
    artifacts: options.Artifacts,
    selection: options.Selection,
    layout: Layout,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
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

    chosen = Chosen(artifacts, selection, options.open_results(db), data)
    for artifact in chosen.artifacts:
        value = chosen.compute(artifact)
        emit(format_, CELL_FIELDS, cell_records(value), to_terminal(make_grid(value, layout)))


@options.with_options
def explain(
    artifact: Annotated[str, Argument(help="A table or figure of the paper, e.g. table5.")],
    row: Annotated[str, Argument(help="The cell's row, e.g. ResNet164; a part will do.")],
    column: Annotated[
        str, Argument(help="Its column, e.g. DIANet; row and column in either order.")
    ],
    selection: Annotated[options.Selection, options.EXPLAINED],
    metric: Annotated[
        str | None,
        Argument(help="One of its values, e.g. top1_last; by default all.", metavar="METRIC"),
    ] = None,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    data: options.DataFolder = options.DEFAULT_DATA,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Say which runs, seeds and epochs a cell of a table comes from, and how to train them.

    As csv or json: one record for each value and run.

    Example: dia-repro explain table5 DIANet 164
    """
    from dia_repro.artifacts import choose
    from dia_repro.artifacts.explanation import explain as explain_cell
    from dia_repro.artifacts.lookup import find_entry
    from dia_repro.rendering.explanations import EXPLANATION_FIELDS, explanation_records, to_people

    one, *others = choose([artifact], selection.attention)
    if others:
        raise OneArtifactError("explain takes one table or figure: a cell is in one")
    entry = find_entry(one, row, column)
    database = options.open_results(db, must_exist=False)
    request, seeds = Chosen([artifact], selection, database, data).request(one), selection.seeds
    found = explain_cell(one, database, request, entry, metric=metric, seeds=seeds)
    places = {
        "db": None if db == options.DEFAULT_DATABASE else database.name,
        "data": None if data == options.DEFAULT_DATA else data,
    }
    commands = {
        experiment.spec.spec_id: training_command(found.value, experiment, selection, **places)
        for experiment in found.experiments.values()
    }
    records = explanation_records(found, commands)
    emit(format_, EXPLANATION_FIELDS, records, to_people(found, commands))


def training_command(
    value: TableValue, experiment: Experiment, selection: options.Selection, **places: object
) -> str:
    """Return the command that trains one experiment of an artifact, and no other.

    Args:
        selection: as the experiment was chosen by.
        places: further options of it, by name.
    """
    protocol = value.request.protocol
    chosen = replace(
        selection,
        protocol=None if protocol is Protocol.PAPER else protocol,
        seeds=None if value.seeds.numbers == (0,) else value.seeds,
        only=(experiment.words,),
        precision=Precision(experiment.spec.precision) if experiment.precision_said else None,
    )
    return command_line("run", value.artifact.name, options=chosen, **places)


@options.with_options
def claims(
    selection: Annotated[options.Selection, options.JUDGED],
    artifacts: options.AnyArtifacts = None,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    data: options.DataFolder = options.DEFAULT_DATA,
    by: Annotated[Epoch, Option(help="Epoch whose test accuracy counts.")] = Epoch.BEST,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Judge each claim of the paper by the runs in the database; trains nothing.

    Questions of controls are judged, too, and named as such: experiments of ours that separate
    explanations of the paper's results. A claim's reason says what its controls leave of them.

    Supported: in every comparison the 95 % interval over paired seeds is on the claim's side.
    Refuted: in one of them it is on the other side, and p ≤ 0.05 after Holm. Three seeds are the
    least that decide; up to five seeds by Student's t test, from six on by sign flips.

    As csv or json: one record for each comparison.

    Example: dia-repro claims --protocol demo
    """
    from dia_repro.claims.evaluate import evaluate_claims
    from dia_repro.claims.verdicts import RECORD_FIELDS, verdict_records
    from dia_repro.execution.requests import names_of_claims
    from dia_repro.rendering.claims import claims_table
    from dia_repro.rendering.grid import differences_in_words
    from dia_repro.results.queries import mixed_environments

    chosen = Chosen(artifacts, selection, options.open_results(db), data)
    about = names_of_claims(chosen.artifacts, selection.only)
    verdicts = evaluate_claims(chosen.database, chosen.wanted, by)
    verdicts = tuple(verdict for verdict in verdicts if verdict.claim in about)
    records = verdict_records(verdicts)
    emit(format_, RECORD_FIELDS, records, claims_table(records))
    _sum_up(verdicts, artifacts or ["all"], selection)
    specs = (spec for one in chosen.artifacts for spec in one.specs(chosen.request(one)).values())
    mixed = mixed_environments(chosen.database, (spec.spec_id for spec in specs))
    for sentence in differences_in_words(mixed):
        notice(sentence)


def _sum_up(
    verdicts: Sequence[ClaimVerdict], artifacts: Sequence[str], selection: options.Selection
) -> None:
    """Print the number of claims with each verdict, and what they rest on."""
    from dia_repro.claims.verdicts import Verdict

    papers = [one for one in verdicts if one.of_paper]
    others = [one for one in verdicts if not one.of_paper]
    for what, of_kind in (("claims", papers), ("questions beside the paper", others)):
        counts = Counter(one.verdict for one in of_kind)
        said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict)
        if of_kind:
            notice(f"{len(of_kind)} {what}: {said}.")
    foreign = [o for o in verdicts if not o.papers_own and o.verdict is not Verdict.NOT_RUN]
    if foreign:
        protocols = " and ".join(dict.fromkeys(one.conditions.split(",")[0] for one in foreign))
        notice(
            f"{len(foreign)} of these verdicts do not rest on the paper's data and schedule "
            f"({protocols}): they show how the claims fare there, not whether the paper holds."
        )
    if any(one.verdict is Verdict.NOT_RUN for one in verdicts):
        command = command_line("run", *artifacts, options=selection)
        notice(f"What is not run is trained by: {command}")
