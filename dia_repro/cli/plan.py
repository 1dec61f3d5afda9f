"""`plan` says which runs artifacts need, what they share, and what the rest would cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from dia_repro.cli import options
from dia_repro.cli.engines import Local, Resources, find_engine
from dia_repro.cli.output import duration, emit, notice, stdout
from dia_repro.cli.requests import choose_data, resolve
from dia_repro.experiments.names import DataLocation, Protocol
from dia_repro.rendering.listing import Column, field, listing

if TYPE_CHECKING:
    from dia_repro.cli.engines import Engine
    from dia_repro.execution.bottleneck import DataLimit
    from dia_repro.execution.planning import PlannedRun
    from dia_repro.experiments.spec import DataSpec
    from dia_repro.results.database import Database

FIELDS = (
    "network",
    "data",
    "artifacts",
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
COLUMNS = (
    Column("network", field("network")),
    Column("data", field("data")),
    Column("for", field("artifacts")),
    Column("seed", field("seed"), right=True),
    Column("state", field("state")),
    Column("epochs", lambda r: f"{r['epochs_done']}/{r['epochs']}", right=True),
    Column("#P (M)", lambda r: f"{r['parameters'] / 1e6:.2f}", right=True),
    Column("TMAC", lambda r: f"{r['macs'] / 1e12:,.1f}", right=True),
    Column("time left", lambda r: duration(r["seconds_left"]), right=True),
)
SHARING_COLUMNS = (
    Column("artifact", field("artifact")),
    Column("networks", field("specs"), right=True),
    Column("shared with those above", field("shared"), right=True),
    Column("adds", field("adds"), right=True),
    Column("runs to train", field("open"), right=True),
    Column("time left", lambda r: duration(r["seconds_left"]), right=True),
)


def plan(
    artifacts: options.Artifacts,
    protocol: options.ProtocolOption = Protocol.PAPER,
    seeds: options.Seeds = 1,
    only: options.Only = None,
    epochs: options.Epochs = None,
    dataset: options.Dataset = None,
    image_size: options.ImageSize = None,
    skip_damaged: options.SkipDamaged = False,
    precision: options.PrecisionOption = None,
    device: options.DeviceOption = None,
    jobs: options.Jobs = None,
    per_gpu: options.PerGpu = None,
    gpus_per_run: options.GPUsPerRun = None,
    executor: options.ExecutorOption = options.Executor.LOCAL,
    address: options.Address = None,
    slurm: options.SlurmOptions = None,
    price: Annotated[
        float | None,
        typer.Option("--price", min=0, help="Of an hour of one GPU, or of this machine's CPU."),
    ] = None,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    data: options.DataFolder = options.DEFAULT_DATA,
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
    own = choose_data(dataset, image_size, data, skip_damaged=skip_damaged)
    engine = find_engine(
        Resources(executor, address, device, jobs, per_gpu, gpus_per_run, slurm or ())
    )
    request = resolve(engine.machine, protocol, own, precision, epochs)
    from dia_repro.execution.planning import plan_runs

    planned = plan_runs(database, chosen, request, seeds, only or ())
    check_planned(planned)
    names = [one.name for one in chosen]
    location = DataLocation(data, own.folder if own else None, skip_damaged)
    print_plan(planned, names, database, engine, location, format_, price)


def check_planned(planned: Sequence[PlannedRun]) -> None:
    """Refuse runs that would fail half-way through their first epoch."""
    from dia_repro.experiments.batches import check_batches

    for one in planned:
        if not one.done and one.training_images:
            check_batches(one.spec, one.training_images)


def check_sharing(open_runs: Sequence[PlannedRun], gpus: int) -> None:
    """Refuse runs that cannot be shared out among so many GPUs."""
    if gpus > 1:
        from dia_repro.training.together import Group, check_group

        for one in open_runs:
            check_group(one.spec, Group(0, gpus))


def print_plan(
    planned: Sequence[PlannedRun],
    names: Sequence[str],
    database: Database,
    engine: Engine,
    location: DataLocation,
    format_: options.Format,
    price: float | None = None,
) -> None:
    """The runs, what artifacts of these names share, and the cost of what is left."""
    from dia_repro.execution.bottleneck import data_limits, with_decoding
    from dia_repro.execution.estimates import at_full_speed, wall_seconds, with_estimates

    open_runs = [one for one in planned if not one.done]
    machine, at_once = engine.machine, engine.room(len(open_runs))
    beside = engine.beside(at_once)
    planned = with_estimates(planned, database, machine, beside, engine.gpus_of_a_run)
    limits: dict[DataSpec, DataLimit] = {}
    if isinstance(engine, Local):  # a cluster's nodes have data and cores of their own
        limits = data_limits(planned, machine, at_once, location)
        planned = with_decoding(planned, limits, shared=not machine.has_gpu)
    records = [_record(one) for one in planned]
    emit(format_, FIELDS, records, listing(COLUMNS, records))
    if format_ is not options.Format.TABLE:
        return
    if len(names) > 1:
        stdout().print()
        stdout().print(listing(SHARING_COLUMNS, [_share(name, planned) for name in names]))
    open_runs = [one for one in planned if not one.done]
    wall = wall_seconds(open_runs, at_full_speed(machine, at_once, beside))
    hours, cost = wall / 3600, ""
    if machine.has_gpu:
        hours = sum(one.seconds or 0 for one in open_runs) / 3600 * engine.gpus_of_a_run
        cost = f", {hours:.3g} GPU-hours"
    cost += "" if price is None else f", {hours * price:,.2f} at {price:g} an hour"
    operations = sum(2 * one.macs * one.left for one in planned)
    disk = sum(one.disk_bytes for one in open_runs)
    notice(
        f"{len({one.spec for one in planned})} distinct experiments; "
        f"{len(open_runs)} of {len(planned)} runs to train: {operations / 1e15:.3g} PFLOP, "
        f"about {duration(wall)} on {', '.join(machine.devices)} "
        f"({at_once} at a time{cost}), up to {disk / 1e6:,.0f} MB of checkpoints."
    )
    for limit in limits.values():
        notice(limit.sentence())


def _share(name: str, planned: Sequence[PlannedRun]) -> dict[str, object]:
    """What an artifact needs, and what of that those before it do not need already."""
    needed = [one for one in planned if name in one.artifacts]
    added = [one for one in needed if one.artifacts[0] == name]
    specs, adds = ({one.spec for one in runs} for runs in (needed, added))
    return {
        "artifact": name,
        "specs": len(specs),
        "shared": len(specs) - len(adds),
        "adds": len(adds),
        "open": sum(not one.done for one in added),
        "seconds_left": sum(one.seconds or 0.0 for one in added),
    }


def _record(one: PlannedRun) -> dict[str, object]:
    from dia_repro.experiments.describe import describe_data, describe_model

    return {
        "network": describe_model(one.spec.model),
        "data": describe_data(one.spec.data),
        "artifacts": " ".join(one.artifacts),
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
