"""`runs export` writes the database for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dia_repro.cli import options
from dia_repro.cli.output import notice, watch
from dia_repro.cli.requests import open_results
from dia_repro.rendering.records import FileFormat


def export(
    folder: Annotated[
        Path, typer.Argument(help="Folder for runs.csv, epochs.csv, attempts.csv, schema.json.")
    ],
    format_: Annotated[
        FileFormat,
        typer.Option("--format", help="csv, json, or parquet (needs the extra parquet)."),
    ] = FileFormat.CSV,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the files of an earlier export.")
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
