"""`run` trains what artifacts need and the database lacks; `plan` says what that would be."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dia_repro.cli import options
from dia_repro.cli.output import duration, emit, notice
from dia_repro.errors import ABSENT, DONE, INTERRUPTED, RUN_FAILED, AbsentError
from dia_repro.experiments.names import Precision, Protocol
from dia_repro.rendering.listing import Column, field, listing

if TYPE_CHECKING:
    from dia_repro.execution.machine import Machine
    from dia_repro.execution.messages import Ended
    from dia_repro.execution.planning import PlannedRun
    from dia_repro.experiments.protocols import Request
    from dia_repro.results.database import Database

PLAN_FIELDS = (
    "label",
    "seed",
    "state",
    "epochs_done",
    "epochs",
    "parameters",
    "macs",
    "seconds_left",
    "disk_bytes",
    "spec_id",
)

PLAN_COLUMNS = (
    Column("network", field("label")),
    Column("seed", field("seed"), right=True),
    Column("state", field("state")),
    Column("epochs", lambda r: f"{r['epochs_done']}/{r['epochs']}", right=True),
    Column("#P (M)", lambda r: f"{r['parameters'] / 1e6:.2f}", right=True),
    Column("TMAC", lambda r: f"{r['macs'] / 1e12:,.1f}", right=True),
    Column("time left", lambda r: duration(r["seconds_left"]), right=True),
    Column("spec", field("spec_id")),
)


class ConfirmationError(AbsentError):
    """Nobody is there to be asked."""


def run(
    artifacts: options.Artifacts,
    protocol: options.ProtocolOption = Protocol.PAPER,
    seeds: options.Seeds = 1,
    dataset: options.Dataset = None,
    precision: options.PrecisionOption = None,
    jobs: options.Jobs = None,
    device: options.DeviceOption = None,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    data: options.DataFolder = options.DEFAULT_DATA,
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
    if dry_run:
        plan(artifacts, protocol, seeds, dataset, precision, device, db, options.Format.TABLE)
        return
    from dia_repro.artifacts import choose
    from dia_repro.results.database import open_database

    chosen = choose(artifacts)
    database = open_database(db, create=False)
    machine, request = _resolve(protocol, dataset, precision, device)
    from dia_repro.execution.planning import longest_first, make_orders, plan_runs

    planned = plan_runs(database, chosen, request, seeds)
    open_runs = longest_first(planned)
    if not open_runs:
        notice(f"Nothing to train: all {len(planned)} runs are in {db}.")
        return
    if protocol is Protocol.PAPER and not machine.has_gpu:
        _ask_before_long_cpu_run(open_runs, database, machine, data, yes)
    else:
        _check_data(open_runs, data)
    workers = machine.jobs_for(len(open_runs), jobs)
    notice(
        f"{len(open_runs)} of {len(planned)} runs to train, {workers} at a time "
        f"on {', '.join(machine.devices)}; results go to {db}."
    )
    database = open_database(db, create=True)
    orders = make_orders(open_runs, database, machine, workers, data, shlex.join(sys.argv))
    from dia_repro.cli.progress import RunProgress
    from dia_repro.execution.local import LocalExecutor

    weights = {order.run_id: one.macs for order, one in zip(orders, open_runs, strict=True)}
    with RunProgress(orders, weights) as progress:
        executor = LocalExecutor(database, workers, progress.on_message, progress.on_stopping)
        ended = executor.run(orders)
    raise typer.Exit(_summarise(ended, len(orders), executor.stopping))


def plan(
    artifacts: options.Artifacts,
    protocol: options.ProtocolOption = Protocol.PAPER,
    seeds: options.Seeds = 1,
    dataset: options.Dataset = None,
    precision: options.PrecisionOption = None,
    device: options.DeviceOption = None,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Say which runs tables or figures need, which are done, and what the rest would cost.

    Trains nothing but a few steps to see how fast this machine is.

    Example: dia-repro plan table5
    """
    from dia_repro.artifacts import choose
    from dia_repro.results.database import open_database

    chosen = choose(artifacts)
    database = open_database(db, create=False)
    from dia_repro.execution.planning import plan_runs, wall_seconds, with_estimates

    machine, request = _resolve(protocol, dataset, precision, device)
    planned = plan_runs(database, chosen, request, seeds)
    planned = with_estimates(planned, database, machine)
    records = [_record(one) for one in planned]
    open_runs = [one for one in planned if not one.done]
    jobs = machine.jobs_for(len(open_runs), None)
    emit(format_, PLAN_FIELDS, records, listing(PLAN_COLUMNS, records))
    if format_ is options.Format.TABLE:
        operations = sum(2 * one.macs * one.left for one in planned)
        disk = sum(one.disk_bytes for one in open_runs)
        notice(
            f"{len(open_runs)} of {len(planned)} runs to train: {operations / 1e15:.3g} PFLOP, "
            f"about {duration(wall_seconds(open_runs, jobs))} on {', '.join(machine.devices)} "
            f"({jobs} at a time), up to {disk / 1e6:,.0f} MB of checkpoints."
        )


def _resolve(
    protocol: Protocol,
    dataset: str | None,
    precision: Precision | None,
    device: options.Device | None,
) -> tuple[Machine, Request]:
    from dia_repro.execution.machine import find_machine
    from dia_repro.experiments.protocols import GPU_PRECISION, Request
    from dia_repro.training.numerics import check_precision

    machine = find_machine(device)
    if precision is None:
        precision = GPU_PRECISION[protocol] if machine.has_gpu else Precision.FP32
    check_precision(precision.value, machine.device)
    return machine, Request(protocol, precision, dataset)


def _ask_before_long_cpu_run(
    open_runs: list[PlannedRun], database: Database, machine: Machine, data: Path, yes: bool
) -> None:
    from dia_repro.execution.planning import wall_seconds, with_estimates

    jobs = machine.jobs_for(len(open_runs), None)
    hours = wall_seconds(with_estimates(open_runs, database, machine), jobs) / 3600
    notice(
        f"No GPU here: on this CPU the {len(open_runs)} runs would take about {hours:,.0f} hours "
        f"({hours / 24:,.0f} days). For a look that takes minutes, add --protocol demo."
    )
    _check_data(open_runs, data)
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfirmationError("nobody to ask whether to start: add --yes to start all the same")
    if not typer.confirm("Start all the same?", err=True):
        raise typer.Exit(DONE)


def _check_data(open_runs: list[PlannedRun], data: Path) -> None:
    from dia_repro.data import load

    for name in dict.fromkeys(one.spec.data.dataset for one in open_runs):
        load(name, data)


def _record(one: PlannedRun) -> dict[str, object]:
    return {
        "label": one.label,
        "seed": one.seed,
        "state": one.run.state.value if one.run else "pending",
        "epochs_done": one.run.epochs if one.run else 0,
        "epochs": one.spec.recipe.epochs,
        "parameters": one.counts.parameters,
        "macs": one.macs,
        "seconds_left": one.seconds,
        "disk_bytes": one.disk_bytes,
        "spec_id": one.spec.spec_id,
    }


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
