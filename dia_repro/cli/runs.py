"""`runs`: what the database holds."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import typer
from rich.console import Group
from rich.text import Text
from typer import Argument, Option

from dia_repro.cli import options
from dia_repro.cli.environment import own_command
from dia_repro.cli.options import open_results
from dia_repro.cli.output import confirm, emit, notice, watch
from dia_repro.cli.progress import Terminal
from dia_repro.errors import RUN_FAILED, UsageError, displayed_text
from dia_repro.execution.dialogue import duration
from dia_repro.execution.options import command_line
from dia_repro.experiments.names import DataLocation
from dia_repro.experiments.spec import describe_stored
from dia_repro.interrupts import Interrupted
from dia_repro.rendering.listing import Column, field, listing, plain
from dia_repro.rendering.records import FileFormat, Record, Tracker, to_json

app = typer.Typer(help="Runs in the database.", no_args_is_help=True)

LISTED = 200
AGAIN = "again.db"
LIST_COLUMNS = (
    *plain("run", right=True),
    *plain("network", "data"),
    Column("rate", field("lr", "{:g}"), right=True),
    *plain("seed", right=True),
    *plain("origin"),
    *plain("state"),
    Column("epochs", lambda r: f"{r['epochs_done']}/{r['epochs']}", right=True),
    Column("best %", field("best_top1", "{:.2f}"), right=True),
    Column("last %", field("last_top1", "{:.2f}"), right=True),
    Column("time", field("seconds", duration), right=True),
    Column("note", lambda r: r["reason"] or r["owner"] or ""),
)
EPOCH_COLUMNS = (
    *plain("epoch", right=True),
    Column("rate", field("lr", "{:g}"), right=True),
    Column("train loss", field("train_loss", "{:.4f}"), right=True),
    Column("train %", field("train_top1", "{:.2f}"), right=True),
    Column("test loss", field("test_loss", "{:.4f}"), right=True),
    Column("test %", field("test_top1", "{:.2f}"), right=True),
    Column("validation loss", field("validation_loss", "{:.4f}"), right=True),
    Column("validation %", field("validation_top1", "{:.2f}"), right=True),
    Column("time", field("seconds", duration), right=True),
)


@app.command("list")
@options.with_options
def list_(
    wanted: options.RunFilter,
    last: int | None = Option(
        None,
        min=1,
        max=10**9,  # that a database can be asked for
        help=f"Only this number of the last ones, in their order; by default {LISTED} in the "
        "table (the first ones with --sort), all as csv or json.",
    ),
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
    run: int = Argument(help="The run's number, from runs list."),
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Show one run: its epochs, and what it ran on.

    As csv: one record an epoch. As json: everything.

    Example: dia-repro runs show 1
    """
    from dia_repro.results.frames import EPOCHS, RUNS, records_of
    from dia_repro.results.queries import run_detail
    from dia_repro.results.schema import RunRow

    database = open_results(db)
    detail = run_detail(database, run)
    with database.reading() as session:
        (record,) = records_of(session, RUNS, RunRow.id == run)
    if format_ is options.Format.JSON:
        known = {**asdict(detail.summary), "spec": json.loads(detail.spec_json)}
        everything = {**known, "epochs": detail.epochs, "provenance": detail.provenance}
        sys.stdout.write(to_json(everything))
        return
    attempts = [
        Text("\n".join([f"attempt {number}", *_lines(attempt)]))
        for number, attempt in enumerate(detail.provenance, start=1)
    ]
    epochs = listing(EPOCH_COLUMNS, detail.epochs)
    table = Group(Text("\n".join(_lines(record))), epochs, *attempts)
    emit(format_, [name for name in EPOCHS.names if name != "run"], detail.epochs, table)


@app.command()
def diff(
    a: int = Argument(help="Number of a run, from runs list."),
    b: int = Argument(help="Number of the run to compare it with."),
    every: bool = Option(False, "--all", help="Also what is equal; what differs is marked with *."),
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
        *plain("section", "field"),
        Column(f"run {a}", field("a")),
        Column(f"run {b}", field("b")),
        Column("from epoch", field("from_epoch"), right=True),
    ]
    emit(format_, DIFFERENCES.names, records, listing(columns, records))
    rest = "" if every else " --all shows the others."
    notice(f"{differing} of {len(found)} fields differ.{rest}")


@app.command()
def again(
    run: int = Argument(help="The run's number, from runs list."),
    into: str = Option(
        AGAIN, help="Database for the repetition: another SQLite file or database URL."
    ),
    images: Path | None = Option(None, help="Folder of the images, where they are your own."),
    skip_damaged: bool = Option(
        False, "--skip-damaged", help="Leave out damaged images, as run with this option does."
    ),
    dry_run: bool = Option(
        False, "--dry-run", help="Only print the commands that restore code and packages."
    ),
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    data: options.DataFolder = options.DEFAULT_DATA,
) -> None:
    """Train a run once more, exactly as it was, into another database, and compare the results.

    Threads, kind of device and deterministic mode are those of the run's last attempt. The exit
    code is 1 where a metric differs in a single bit, or the training fails. A run of the same
    experiment and seed that is in the other database already is taken for the repetition.

    Example: dia-repro runs again 4 --into again.db
    """
    from dia_repro.results.queries import run_detail

    database = open_results(db)
    detail = run_detail(database, run)
    from dia_repro.execution.again import compare, recipe, train_again
    from dia_repro.execution.campaign import Summary

    if dry_run:
        for line in recipe(detail):
            typer.echo(line)
        known = {"into": into, "images": images, "skip_damaged": skip_damaged}
        known |= {"db": db, "data": data}
        usual = {"into": AGAIN, "db": options.DEFAULT_DATABASE, "data": options.DEFAULT_DATA}
        usual["skip_damaged"] = False
        others = {name: value for name, value in known.items() if value != usual.get(name)}
        typer.echo(displayed_text(command_line("runs again", str(run), **others)))
        return
    location = DataLocation(data, images, skip_damaged)
    other, worked = train_again(detail, into, location, Terminal(), own_command())
    outcomes = Counter(ended.outcome for ended in worked.ended.values())
    summary = Summary(other.name, 1, 0, outcomes, stopped=worked.stopped)
    if summary.exit_code:
        for sentence in summary.sentences:
            notice(sentence)
        raise typer.Exit(summary.exit_code)
    found = compare(detail, other)
    for difference in found.environment:
        notice(f"Another environment: {difference}.")
    if found.outcome:
        notice(f"Run {run} differs from its repetition in {other.name}: {found.outcome}.")
        raise typer.Exit(RUN_FAILED)
    notice(
        f"Run {run} and its repetition in {other.name} are the same in all metrics, bit for bit."
    )


@app.command("rm")
def remove(
    runs: list[int] = Argument(help="Their numbers, from runs list."),
    only_checkpoints: bool = Option(
        False, "--only-checkpoints", help="Keep their results in the database; free the disk."
    ),
    yes: bool = Option(False, "--yes", help="Do not ask."),
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    checkpoints: options.CheckpointsOption = None,
) -> None:
    """Remove runs with their epochs, analyses and checkpoints.

    A run that is being trained is refused.

    Example: dia-repro runs rm 3 4 --only-checkpoints
    """
    from dia_repro.execution.maintenance import check_removable, reachable_store, remove_run
    from dia_repro.results.queries import run_detail

    database = open_results(db)
    details = [run_detail(database, number) for number in dict.fromkeys(runs)]
    store = reachable_store(database, checkpoints)
    for detail in details:
        check_removable(database, store, detail.summary)
    what = f"{'the checkpoints of ' if only_checkpoints else ''}{len(details)} runs"
    for detail in details:
        run = detail.summary
        notice(
            f"Run {run.id}: {describe_stored(run.spec_id, detail.spec_json)}, seed {run.seed}, "
            f"{run.state}, {run.epochs} epochs"
        )
    confirm(f"Remove {what} for good?", yes=yes)
    whole = store.absolute()  # the working folder may be among what is removed
    files = sum(
        remove_run(database, whole, detail.summary, only_checkpoints=only_checkpoints)
        for detail in details
    )
    notice(f"Removed {what}: {files} checkpoints in {store.name}.")


@app.command()
def export(
    folder: Path = Argument(help="Folder for runs.csv, epochs.csv, attempts.csv, schema.json."),
    format_: FileFormat = Option(
        FileFormat.CSV, "--format", help="csv, json, or parquet (needs the extra parquet)."
    ),
    to: Tracker | None = Option(
        None,
        "--to",
        help="Instead, event files for a tracker: tensorboard, or wandb for 'wandb sync'. Needs "
        "the extra of that name.",
    ),
    overwrite: bool = Option(False, "--overwrite", help="Replace the files of an earlier export."),
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
) -> None:
    """Write all runs, epochs and attempts to files for other programs.

    schema.json next to them has the type, unit and meaning of every column.

    Example: dia-repro runs export exported --format parquet
    """
    if to is not None:
        from dia_repro.rendering.trackers import export_to

        with watch("Writing") as on_progress:
            count = export_to(to, open_results(db), folder, on_progress)
        notice(f"Written to {folder}: {count:,} runs for {to}.")
        return
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


@app.command()
def weights(
    run: int = Argument(help="The run's number, from runs list."),
    file: Path = Argument(help="Name of the file, e.g. dianet.safetensors."),
    overwrite: bool = Option(False, "--overwrite", help="Replace a file of that name."),
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    checkpoints: options.CheckpointsOption = None,
) -> None:
    """Write the weights of a run's newest checkpoint as safetensors, for your own code.

    Names are those of the network that dia_repro.build returns. The file's metadata have the
    experiment, the run and the seed.

    Example: dia-repro runs weights 4 dianet.safetensors
    """
    from dia_repro.rendering.files import check_target, write_bytes
    from dia_repro.results.queries import run_detail

    if file.exists() and not overwrite:
        raise UsageError(f"{file} exists: add --overwrite to replace it")
    if file.suffix != ".safetensors":
        raise UsageError(f"{file}: the name of a file of weights ends in .safetensors")
    check_target(file)
    database = open_results(db)
    detail = run_detail(database, run)
    from safetensors.torch import save

    from dia_repro.analysis.weights import stored_weights
    from dia_repro.execution.maintenance import folder_of, reachable_store

    folder = folder_of(reachable_store(database, checkpoints), detail.summary)
    tensors, about = stored_weights(detail, folder)
    write_bytes(file, save(tensors, about))
    steps = "" if about["steps"] == "0" else f" and {about['steps']} steps"
    numbers = sum(tensor.numel() for tensor in tensors.values())
    when = f"after {about['epochs']} epochs{steps}"
    notice(f"Written to {file}: {numbers:,} numbers of run {run} {when}.")


@app.command("watch")
def watch_(
    every: float = Option(2.0, min=0.1, max=3600, help="Seconds between two looks."),
    forever: bool = Option(False, "--forever", help="Go on when no run is running or pending."),
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Watch runs while another process trains them: epochs, accuracy, its curve, time left.

    It only reads, and ends when no run is running or pending, or with Ctrl-C. Where output is no
    terminal, and as csv or json, it is one look.

    Example: dia-repro runs watch --every 5
    """
    from dia_repro.cli.watch import FIELDS, follow, look_once

    try:
        if format_ is options.Format.TABLE and sys.stdout.isatty():
            follow(db, every, forever=forever)
        else:
            emit(format_, FIELDS, *look_once(db))
    except (Interrupted, KeyboardInterrupt):  # the way to end it, and no failure
        return


def _lines(record: Record) -> list[str]:
    return [f"  {key}: {_short(value)}" for key, value in record.items() if value is not None]


def _short(value: object) -> str:
    lines = str(value).splitlines()
    return str(value) if len(lines) < 2 else f"{len(lines)} lines: --format json has them"
