"""`db`: the results database itself."""

from __future__ import annotations

import typer

from dia_repro.cli import options
from dia_repro.cli.output import notice

app = typer.Typer(help="Look after the results database.", no_args_is_help=True)


@app.callback()
def root() -> None:
    """Look after the results database."""


@app.command()
def upgrade(db: options.DatabaseOption = options.DEFAULT_DATABASE) -> None:
    """Bring a database of an earlier version to this one's schema.

    A SQLite file is copied first. Nothing else ever upgrades a database.

    Example: dia-repro db upgrade --db runs.db
    """
    from dia_repro.results.database import upgrade_database
    from dia_repro.results.schema import REVISION

    backup = upgrade_database(db)
    kept = f"; the file as it was is {backup}" if backup else ""
    notice(f"{db} has schema {REVISION}{kept}.")
