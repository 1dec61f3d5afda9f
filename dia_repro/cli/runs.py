"""`runs`: what the database holds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.text import Text
from typer import Argument, Option

from dia_repro.cli import options
from dia_repro.cli.options import open_results, reachable_store
from dia_repro.cli.output import confirm, duration, emit, notice, stdout, watch
from dia_repro.cli.watch import watch as watch_runs
from dia_repro.rendering.listing import Column, field, listing
from dia_repro.rendering.records import FileFormat, Record, to_csv, to_json

if TYPE_CHECKING:
    from dia_repro.results.database import Database

app = typer.Typer(help="Runs in the database.", no_args_is_help=True)
app.command()(watch_runs)

LISTED = 200
LIST_COLUMNS = (
    Column("run", field("run"), right=True),
    Column("network", field("network")),
    Column("data", field("data")),
    Column("seed", field("seed"), right=True),
    Column("state", field("state")),
    Column("epochs", lambda r: f"{r['epochs_done']}/{r['epochs']}", right=True),
    Column("best %", field("best_top1", "{:.2f}"), right=True),
    Column("last %", field("last_top1", "{:.2f}"), right=True),
    Column("time", field("seconds", duration), right=True),
    Column("note", lambda r: r["reason"] or r["owner"] or ""),
)
EPOCH_COLUMNS = (
    Column("epoch", field("epoch"), right=True),
    Column("rate", field("lr", "{:g}"), right=True),
    Column("train loss", field("train_loss", "{:.4f}"), right=True),
    Column("train %", field("train_top1", "{:.2f}"), right=True),
    Column("test loss", field("test_loss", "{:.4f}"), right=True),
    Column("test %", field("test_top1", "{:.2f}"), right=True),
    Column("time", field("seconds", duration), right=True),
)


@app.command("list")
@options.with_options
def list_(
    wanted: options.RunFilter,
    last: Annotated[
        int | None,
        Option(
            min=1,
            max=10**9,  # that a database can be asked for
            help=f"Only so many of the last ones, in their order; by default {LISTED} in the "
            "table (the first ones with --sort), all as csv or json.",
        ),
    ] = None,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """List runs with their state and accuracy, oldest first.

    As csv or json: all columns that runs.csv has in an export.

    Example: dia-repro runs list --artifact table5 --state finished --sort -best_top1
    """
    from dia_repro.execution.listing import list_runs
    from dia_repro.results.frames import RUNS

    database = open_results(db)
    limited, which = last is None and format_ is options.Format.TABLE, "last"
    if limited and wanted.sort is None:
        last = LISTED
    found = list_runs(database, wanted, last)
    records = found.records
    if limited and wanted.sort is not None:
        records, which = records[:LISTED], "first"
    if not records and wanted == options.RunFilter():
        notice(f"No runs in {database.name} yet.")
    elif not records:
        notice(f"No run in {database.name} has all that was asked for.")
    emit(format_, RUNS.names, records, listing(LIST_COLUMNS, records))
    if len(records) < found.matching:
        notice(f"The {which} {len(records)} of {found.matching:,} runs; --last shows more.")


@app.command("show")
def show(
    run: Annotated[int, Argument(help="The run's number, from runs list.")],
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Show one run: its epochs, and what it ran on.

    As csv: one record an epoch. As json: everything.

    Example: dia-repro runs show 1
    """
    from dataclasses import asdict

    from dia_repro.results.frames import EPOCHS
    from dia_repro.results.queries import run_detail

    database = open_results(db)
    detail = run_detail(database, run)
    record = _record(database, run)
    if format_ is options.Format.CSV:
        sys.stdout.write(to_csv([name for name in EPOCHS.names if name != "run"], detail.epochs))
    elif format_ is options.Format.JSON:
        known = {**asdict(detail.summary), "spec": json.loads(detail.spec_json)}
        everything = {**known, "epochs": detail.epochs, "provenance": detail.provenance}
        sys.stdout.write(to_json(everything))
    else:
        attempts = [
            Text("\n".join([f"attempt {number}", *_lines(attempt)]))
            for number, attempt in enumerate(detail.provenance, start=1)
        ]
        stdout().print(
            Group(Text("\n".join(_lines(record))), listing(EPOCH_COLUMNS, detail.epochs), *attempts)
        )


@app.command()
def diff(
    a: Annotated[int, Argument(help="Number of a run, from runs list.")],
    b: Annotated[int, Argument(help="Number of the run to compare it with.")],
    every: Annotated[
        bool, Option("--all", help="Also what is equal; what differs is marked with *.")
    ] = False,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Compare two runs: experiment, result, environment of the last attempt, and last epoch.

    Metrics that differ name the first epoch in which they do.

    Example: dia-repro runs diff 1 4
    """
    from dia_repro.results.comparison import DIFFERENCES, compare_runs

    database = open_results(db)
    found = compare_runs(database, a, b)
    differing = sum(record["differs"] for record in found)
    records = [record for record in found if every or record["differs"]]
    columns = [
        Column("", lambda r: "*" if every and r["differs"] else ""),
        Column("section", field("section")),
        Column("field", field("field")),
        Column(f"run {a}", field("a")),
        Column(f"run {b}", field("b")),
        Column("from epoch", field("from_epoch"), right=True),
    ]
    emit(format_, DIFFERENCES.names, records, listing(columns, records))
    rest = "" if every else " --all shows the others."
    notice(f"{differing} of {len(found)} fields differ.{rest}")


@app.command("rm")
def remove(
    runs: Annotated[list[int], Argument(help="Their numbers, from runs list.")],
    only_checkpoints: Annotated[
        bool,
        Option("--only-checkpoints", help="Keep their figures in the database; free the disk."),
    ] = False,
    yes: Annotated[bool, Option("--yes", help="Do not ask.")] = False,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    checkpoints: options.CheckpointsOption = None,
) -> None:
    """Remove runs with their epochs, analyses and checkpoints.

    A run that is being trained is refused.

    Example: dia-repro runs rm 3 4 --only-checkpoints
    """
    from dia_repro.experiments.describe import describe_stored
    from dia_repro.results.queries import run_detail

    database = open_results(db)
    numbers = list(dict.fromkeys(runs))
    details = [run_detail(database, number) for number in numbers]
    store = reachable_store(database, checkpoints)
    what = "the checkpoints of " if only_checkpoints else ""
    for detail in details:
        run = detail.summary
        notice(
            f"Run {run.id}: {describe_stored(run.spec_id, detail.spec_json)}, seed {run.seed}, "
            f"{run.state}, {run.epochs} epochs"
        )
    confirm(f"Remove {what}{len(numbers)} runs for good?", yes=yes)
    from dia_repro.execution.maintenance import remove_run

    whole = store.absolute()  # the working folder may be among what is removed
    files = sum(
        remove_run(database, whole, one.summary, only_checkpoints=only_checkpoints)
        for one in details
    )
    notice(f"Removed {what}{len(numbers)} runs: {files} checkpoints in {store.name}.")


@app.command()
def export(
    folder: Annotated[
        Path, Argument(help="Folder for runs.csv, epochs.csv, attempts.csv, schema.json.")
    ],
    format_: Annotated[
        FileFormat, Option("--format", help="csv, json, or parquet (needs the extra parquet).")
    ] = FileFormat.CSV,
    overwrite: Annotated[
        bool, Option("--overwrite", help="Replace the files of an earlier export.")
    ] = False,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
) -> None:
    """Write all runs, epochs and attempts to files for other programs.

    schema.json beside them says of every column its type, unit and meaning.

    Example: dia-repro runs export exported --format parquet
    """
    from dia_repro.rendering.export import export_database

    database = open_results(db)
    with watch("Writing") as on_progress:
        counts = export_database(
            database, folder, format_, overwrite=overwrite, on_progress=on_progress
        )
    if not counts["runs"]:
        notice(f"No runs in {database.name} yet: the files have no records.")
    records = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    notice(f"Written to {folder}, with schema.json: {records}.")


def _lines(record: Record) -> list[str]:
    return [f"  {key}: {value}" for key, value in record.items() if value is not None]


def _record(database: Database, run: int) -> Record:
    """Return a run with the columns of a listing."""
    from dia_repro.results.frames import RUNS, records_of
    from dia_repro.results.schema import RunRow

    with database.reading() as session:
        (record,) = records_of(session, RUNS, RunRow.id == run)
    return record
