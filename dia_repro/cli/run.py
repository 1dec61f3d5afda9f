"""`run` trains what artifacts need and the database lacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from dia_repro.cli import options
from dia_repro.cli.circumstances import own_command
from dia_repro.cli.engines import Resources, Slurm, find_engine
from dia_repro.cli.output import confirm, duration, notice
from dia_repro.cli.plan import check_planned, check_sharing, print_plan
from dia_repro.cli.requests import choose_data, resolve
from dia_repro.errors import ABSENT, DONE, INTERRUPTED, RUN_FAILED, UsageError
from dia_repro.experiments.names import DataLocation, Keep, Protocol

if TYPE_CHECKING:
    from dia_repro.cli.engines import Engine
    from dia_repro.execution.messages import Ended, WorkOrder
    from dia_repro.execution.planning import PlannedRun
    from dia_repro.results.database import Database
    from dia_repro.training.store import Store


def run(
    artifacts: options.Artifacts,
    protocol: options.ProtocolOption = Protocol.PAPER,
    seeds: options.Seeds = 1,
    only: options.Only = None,
    epochs: options.Epochs = None,
    dataset: options.Dataset = None,
    image_size: options.ImageSize = None,
    skip_damaged: options.SkipDamaged = False,
    precision: options.PrecisionOption = None,
    jobs: options.Jobs = None,
    per_gpu: options.PerGpu = None,
    gpus_per_run: options.GPUsPerRun = None,
    executor: options.ExecutorOption = options.Executor.LOCAL,
    address: options.Address = None,
    slurm: options.SlurmOptions = None,
    device: options.DeviceOption = None,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    checkpoints: options.CheckpointsOption = None,
    data: options.DataFolder = options.DEFAULT_DATA,
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic",
            help="On a GPU too, the same bits every time on the same machine; a little slower.",
        ),
    ] = False,
    keep: Annotated[
        Keep,
        typer.Option(
            "--keep",
            help="Which weights stay on the disk when a run is done; analyze gini needs some.",
        ),
    ] = Keep.LAST,
    yes: Annotated[
        bool, typer.Option("--yes", help="Start long trainings on a CPU without asking.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be trained, like plan.")
    ] = False,
) -> None:
    """Train the networks that tables or figures need and the database lacks.

    Every epoch is kept: the same command goes on where Ctrl-C or a crash stopped it.

    Example: dia-repro run table5 --protocol demo
    """
    from dia_repro.artifacts import choose
    from dia_repro.results.database import open_database

    chosen = choose(artifacts)
    database = open_database(db, create=False)
    own = choose_data(dataset, image_size, data, skip_damaged=skip_damaged)
    engine = find_engine(
        Resources(executor, address, device, jobs, per_gpu, gpus_per_run, slurm or ())
    )
    machine = engine.machine
    request = resolve(machine, protocol, own, precision, epochs)
    from dia_repro.execution.planning import (
        checkpoint_store,
        longest_first,
        make_orders,
        plan_runs,
    )

    store = checkpoint_store(database, checkpoints)
    planned = plan_runs(database, chosen, request, seeds, only or ())
    check_planned(planned)
    location = DataLocation(data, own.folder if own else None, skip_damaged)
    if dry_run:
        names = [one.name for one in chosen]
        print_plan(planned, names, database, engine, location, options.Format.TABLE)
        return
    open_runs = longest_first(planned)
    if not open_runs:
        notice(
            f"Nothing to train: all {len(planned)} runs are in {database.name}."
            + ("" if keep is Keep.LAST else " --keep changes nothing of runs that are done.")
        )
        return
    _ask_before_starting_again(open_runs, database, store, yes)
    at_once = engine.room(len(open_runs))
    if protocol is Protocol.PAPER and not machine.has_gpu:
        _ask_before_long_cpu_run(open_runs, database, engine, location, store, yes)
    else:
        engine.check([one.spec.data for one in open_runs], location, store)
    notice(
        f"{len(open_runs)} of {len(planned)} runs to train, {at_once} at a time "
        f"on {', '.join(machine.devices)}; results go to {database.name}."
    )
    processes = max(1, int(engine.gpus_of_a_run))
    check_sharing(open_runs, processes)
    _look_at_surroundings(db, several_machines=isinstance(engine, Slurm))
    database = open_database(db, create=True)
    orders = make_orders(
        open_runs,
        database,
        machine,
        # By all that were asked for, done or not: the same command gives a run the same threads.
        machine.threads(engine.room(len(planned))),
        location,
        own_command(),
        checkpoints=store,
        deterministic=deterministic,
        keep=keep,
        processes=processes,
    )
    if isinstance(engine, Slurm):
        _submit(engine, orders)
        return
    from dia_repro.cli.progress import RunProgress

    weights = {order.run_id: one.macs for order, one in zip(orders, open_runs, strict=True)}
    with RunProgress(orders, weights) as progress:
        working = engine.executor(database, len(orders), progress.on_message, progress.on_stopping)
        ended = working.run(orders)
    raise typer.Exit(_summarise(ended, len(orders), working.stopping))


def _submit(engine: Slurm, orders: Sequence[WorkOrder]) -> None:
    jobs = engine.submit(orders)
    notice(
        f"Submitted to Slurm as job {', '.join(jobs)}. 'dia-repro runs watch' follows it, "
        f"'scancel {' '.join(jobs)}' stops it; this command again goes on with what is left."
    )


def _look_at_surroundings(db: str, *, several_machines: bool) -> None:
    _say_without_commit()
    _look_at_file_system(db, several_machines=several_machines)


def _say_without_commit() -> None:
    from dia_repro.training.provenance import git_problem

    problem = git_problem()
    if problem:
        notice(f"Results will not name the commit of the code: {problem}.")


def _look_at_file_system(db: str, *, several_machines: bool) -> None:
    from dia_repro.results.backends import sqlite_path
    from dia_repro.results.file_systems import network_file_system

    path = sqlite_path(db)
    kind = network_file_system(path) if path else None
    if kind and several_machines:
        raise UsageError(
            f"{path} is on a network file system ({kind}), where several machines would damage a "
            "SQLite file: give a PostgreSQL database with --db"
        )
    if path and several_machines:
        notice(f"{path} is on this machine's own disk: tasks on other nodes will not find it.")
    elif kind:
        notice(
            f"Beware: {path} is on a network file system ({kind}), where several machines can "
            "damage a SQLite file. Use PostgreSQL, or a file for each and 'dia-repro db merge'."
        )


def _ask_before_starting_again(
    open_runs: list[PlannedRun], database: Database, store: Store, yes: bool
) -> None:
    """Who names another place than the last time would lose all that was trained."""
    from dia_repro.execution.upkeep import folder_of
    from dia_repro.training.checkpoint import sorted_names
    from dia_repro.training.probing import check_reachable

    begun = [one.run for one in open_runs if one.run and one.run.epochs]
    if begun:
        check_reachable(store)
    lost = [run for run in begun if not sorted_names(folder_of(store, run))]
    if lost:
        notice(
            f"{len(lost)} interrupted runs in {database.name} have no checkpoint in {store.name}: "
            "they would start again from the first epoch. If their checkpoints are elsewhere, "
            "name that place with --checkpoints."
        )
        confirm("Start them again?", yes=yes)


def _ask_before_long_cpu_run(
    open_runs: list[PlannedRun],
    database: Database,
    engine: Engine,
    location: DataLocation,
    store: Store,
    yes: bool,
) -> None:
    from dia_repro.execution.estimates import at_full_speed, wall_seconds, with_estimates

    jobs = engine.room(len(open_runs))
    beside, machine = engine.beside(jobs), engine.machine
    estimated = with_estimates(open_runs, database, machine, beside)
    seconds = wall_seconds(estimated, at_full_speed(machine, jobs, beside))
    runs = f"{len(open_runs)} run{'s' if len(open_runs) > 1 else ''}"
    notice(
        f"No GPU here: on this CPU the {runs} would take about {duration(seconds)}. "
        "For a look that takes minutes, add --protocol demo."
    )
    engine.check([one.spec.data for one in open_runs], location, store)
    confirm("Start all the same?", yes=yes)


def _summarise(ended: dict[int, Ended], orders: int, stopped: bool) -> int:
    from dia_repro.execution.messages import Outcome

    counts = Counter(one.outcome for one in ended.values())
    kept = orders - len(ended)
    parts = [f"{count} {outcome.value}" for outcome, count in sorted(counts.items())]
    parts += [f"{kept} not started"] if kept else []
    notice(f"Runs: {', '.join(parts)}.")
    if stopped:
        notice("Interrupted; nothing is lost. The same command goes on where this one stopped.")
        return INTERRUPTED
    if counts[Outcome.FAILED]:
        notice("The same command tries the failed runs again.")
        return RUN_FAILED
    if counts[Outcome.BUSY]:
        notice("Repeat this command when the other process is done.")
        return ABSENT
    return DONE
