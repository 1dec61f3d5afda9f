"""`db`: the results database itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from typer import Argument, Option

from dia_repro.cli import options
from dia_repro.cli.output import notice
from dia_repro.errors import DONE, RUN_FAILED, WRONG_USAGE, displayed
from dia_repro.experiments.spec import describe_stored

if TYPE_CHECKING:
    from dia_repro.results.database import Database
    from dia_repro.results.merge import Merged

app = typer.Typer(help="Look after the results database.", no_args_is_help=True)


@app.command()
def upgrade(db: options.DatabaseOption = options.DEFAULT_DATABASE) -> None:
    """Bring a database of an earlier version to this one's schema.

    It is copied first. Nothing else ever upgrades a database.

    Example: dia-repro db upgrade --db runs.db
    """
    from dia_repro.results.migrations import REVISION
    from dia_repro.results.upgrade import upgrade_database

    backup = upgrade_database(db)
    kept = f"; the database as it was is {backup}" if backup else ""
    notice(f"{displayed(db)} has schema {REVISION}{kept}.")


@app.command()
def backup(
    target: Path = Argument(help="SQLite file that is to be made."),
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
) -> None:
    """Copy the database, as it is at this moment, into a new SQLite file.

    Trainings may go on meanwhile. To go back to it, name it with --db; or move the database away,
    with the file of its name and -journal where there is one, and back the copy up to its place.
    Weights are not in the database: copy its checkpoints too if you want them.

    Example: dia-repro db backup runs-2026-05-01.db
    """
    from dia_repro.results.database import open_existing
    from dia_repro.results.upgrade import back_up

    database = open_existing(db)
    back_up(database, target)
    notice(f"{database.name} is copied to {target}.")


@app.command()
def merge(
    others: list[str] = Argument(
        help="Databases whose results are added, or bundles that report has made; they stay as "
        "they are."
    ),
    skip_conflicts: bool = Option(
        False, "--skip-conflicts", help="Where runs conflict, keep ours and take the rest."
    ),
    as_: str | None = Option(
        None,
        "--as",
        metavar="NAME",
        help="Keep the results next to ours, as those of others with this name.",
    ),
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
) -> None:
    """Add the results of other databases to this one, all or nothing.

    A run that both have with the same metrics is one run; one that got further elsewhere goes on
    from there. Other metrics for the same experiment and seed are a conflict: it is named, nothing
    is overwritten, and nothing at all is taken without --skip-conflicts. Merging twice changes
    nothing.

    Results of other people: --as NAME. They never count as ours, so none of them conflicts with a
    result of ours; tables have them in a line below, and show and claims also in ours' place.

    Example: dia-repro db merge machine-b.db machine-c.db
    """
    from dia_repro.results import merge as merging
    from dia_repro.results.bundle import opened
    from dia_repro.results.database import open_database

    with opened(others) as sources:
        database = open_database(db, create=True)
        merged = merging.merge(database, sources, skip_conflicts=skip_conflicts, origin=as_)
        _say_conflicts(merged, sources)
    if merged.conflicts and not skip_conflicts:
        notice(
            f"Nothing was merged: {len(merged.conflicts)} runs conflict. --skip-conflicts takes "
            f"the rest; {'' if as_ else '--as NAME keeps theirs next to ours; '}'dia-repro runs "
            "rm' makes room for theirs."
        )
        raise typer.Exit(WRONG_USAGE)
    left = f", {merged.unfinished} without a result left out" if merged.unfinished else ""
    whose = f" as results of {as_}" if as_ else ""
    notice(
        f"Merged into {database.name}{whose}: {merged.added} runs added, {merged.continued} "
        f"continued, {merged.known} without new epochs, {len(merged.conflicts)} conflicts left as "
        f"they were{left}."
    )


@app.command()
def check(
    repair: bool = Option(
        False, "--repair", help="Mark runs as interrupted that no process trains any more."
    ),
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    checkpoints: options.CheckpointsOption = None,
) -> None:
    """Look for damage: pages, references, schema, values, runs with a wrong state.

    Checkpoints of unknown runs are named, too; a checkpoint's content is checked when it is read.
    Exit code 0 where results are sound, 1 where something is wrong. A run that another machine
    trains is watched for a minute.

    Example: dia-repro db check
    """
    from dia_repro.results.checks import Finding, database_findings
    from dia_repro.results.database import open_existing

    database = open_existing(db)
    findings = list(database_findings(database))
    if not any(finding.bad for finding in findings):
        from dia_repro.execution.maintenance import (
            dead_runs,
            folder_findings,
            reachable_store,
        )
        from dia_repro.results.writer import free

        store = reachable_store(database, checkpoints)
        findings += folder_findings(database, store)
        for number, owner in dead_runs(database, store).items():
            freed = repair and free(database, number, owner)
            what = f"run {number} is marked running, but no process trains it"
            findings.append(Finding(f"{what}: now interrupted" if freed else what, bad=not freed))
    for finding in findings:
        notice(f"{'bad' if finding.bad else 'note'}: {finding.text}")
    bad = sum(finding.bad for finding in findings)
    notice(f"{database.name}: {f'{bad} things are wrong' if bad else 'sound'}.")
    raise typer.Exit(RUN_FAILED if bad else DONE)


def _say_conflicts(merged: Merged, sources: Sequence[Database]) -> None:
    from dia_repro.results.queries import spec_json

    for name, source in {source.name: source for source in sources}.items():
        conflicts = [conflict for conflict in merged.conflicts if conflict.source == name]
        specs = spec_json(source, {conflict.spec_id for conflict in conflicts})
        seeds: dict[tuple[str, str], list[int]] = {}
        for conflict in conflicts:
            seeds.setdefault((conflict.spec_id, conflict.reason), []).append(conflict.seed)
        for (spec_id, reason), of_reason in seeds.items():
            spec = describe_stored(spec_id, specs[spec_id])
            named = f"seed{'s' if of_reason[1:] else ''} {', '.join(map(str, of_reason))}"
            notice(f"Conflict with {name}: {spec}, {named}: {reason}")
