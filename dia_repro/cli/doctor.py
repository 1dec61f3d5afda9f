"""`doctor`: is this machine ready?"""

from __future__ import annotations

import typer

from dia_repro.cli import options
from dia_repro.cli.output import emit, notice
from dia_repro.errors import ABSENT, DONE
from dia_repro.rendering.listing import listing, plain

FIELDS = ("check", "status", "detail")


def doctor(
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    data: options.DataFolder = options.DEFAULT_DATA,
    checkpoints: options.CheckpointsOption = None,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Say whether this machine is ready: GPU, data, disk, database.

    Each thing is tried: locks, sockets, shared memory, a write to the database that is undone.
    Exits with 3 where not even the demo protocol could run.

    Example: dia-repro doctor
    """
    from dia_repro.cli import probes

    found = probes.checks(db, data, checkpoints)
    records = [dict(zip(FIELDS, check, strict=True)) for check in found]
    emit(format_, FIELDS, records, listing(plain(*FIELDS), records))
    bad = any(record["status"] == "bad" for record in records)
    absent = [record["check"] for record in records if record["status"] == "absent"]
    if format_ is options.Format.TABLE:
        notice("Not even the demo protocol can run." if bad else "The demo protocol can run.")
        if absent:
            notice(f"For the paper's protocol there is no {', no '.join(absent)}.")
    raise typer.Exit(ABSENT if bad else DONE)
