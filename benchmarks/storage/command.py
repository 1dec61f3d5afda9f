"""`python -m benchmarks storage`: load and faults on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dia_repro.cli import options
from dia_repro.cli.output import emit, notice, stderr
from dia_repro.errors import DONE, RUN_FAILED
from dia_repro.rendering.listing import Column, field, listing

FIELDS = ("check", "found", "good", "seconds")
VERDICTS = {True: "good", False: "BAD", None: "not run"}
COLUMNS = (
    Column("check", field("check")),
    Column("", lambda r: VERDICTS[r["good"]]),
    Column("found", field("found")),
    Column("s", field("seconds", "{:.0f}"), right=True),
)


def storage(
    full: Annotated[
        bool,
        typer.Option("--full", help="About ten minutes, with a database of 10,000 runs."),
    ] = False,
    folder: Annotated[
        Path,
        typer.Option(
            "--folder",
            exists=True,
            file_okay=False,
            writable=True,
            help="Folder on the disk of the results.",
        ),
    ] = Path(),
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Check that results survive load and faults on this machine.

    Many processes write at once, trainings and upgrades are killed, checkpoints damaged, a disk
    filled. The checks use temporary folders; your results are not touched.

    Example: python -m benchmarks storage
    """
    from dataclasses import asdict

    from benchmarks.storage.suite import checks

    records = []
    with stderr().status("Checking …") as status:
        for result in checks(full=full, folder=folder):
            records.append(asdict(result))
            status.update(f"Done: {result.check}")
    emit(format_, FIELDS, records, listing(COLUMNS, records))
    bad = sum(record["good"] is False for record in records)
    notice(f"{bad} of {len(records)} checks failed." if bad else "Results are safe here.")
    raise typer.Exit(RUN_FAILED if bad else DONE)
