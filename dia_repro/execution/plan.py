"""Plan: the runs that artifacts need, those that they share, and the cost of the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dia_repro.execution.bottleneck import data_limits, with_decoding
from dia_repro.execution.dialogue import duration
from dia_repro.execution.estimates import at_full_speed, wall_seconds, with_estimates
from dia_repro.execution.planning import PlannedRun
from dia_repro.experiments.describe import describe_data, describe_model

if TYPE_CHECKING:
    from pandas import DataFrame

    from dia_repro.execution.executors import Executor
    from dia_repro.experiments.names import DataLocation
    from dia_repro.results.database import Database

# Columns of a plan, by name, from a planned run.
COLUMNS: dict[str, Callable[[PlannedRun], Any]] = {
    "network": lambda run: describe_model(run.spec.model),
    "data": lambda run: describe_data(run.spec.data),
    "artifacts": lambda run: " ".join(run.artifacts),
    "seed": lambda run: run.seed,
    "state": lambda run: run.run.state.value if run.run else "pending",
    "epochs_done": lambda run: run.run.epochs if run.run else 0,
    "epochs": lambda run: run.spec.recipe.epochs,
    "parameters": lambda run: run.counts.parameters,
    "macs": lambda run: run.macs,
    "seconds_left": lambda run: run.seconds,
    "disk_bytes": lambda run: run.disk_bytes,
    "spec_id": lambda run: run.spec.spec_id,
}
FIELDS = tuple(COLUMNS)


@dataclass(frozen=True)
class Plan:
    """The runs that artifacts need, with estimates of what is left.

    Attributes:
        artifacts: names of the artifacts, in the order asked for.
        runs: all runs, with estimates.
        devices: names of the devices that they are trained on.
        at_once: runs at a time.
        wall_seconds: time until all of them are trained.
        gpu_hours: time of all GPUs together; None where runs are trained on a CPU.
        data_paths: a sentence on each data set that is streamed from disk.
    """

    artifacts: tuple[str, ...]
    runs: tuple[PlannedRun, ...]
    devices: tuple[str, ...]
    at_once: int
    wall_seconds: float
    gpu_hours: float | None
    data_paths: tuple[str, ...] = ()

    @property
    def open_runs(self) -> list[PlannedRun]:
        """Return the runs without a result."""
        return [run for run in self.runs if not run.done]

    def records(self) -> list[dict[str, Any]]:
        """Return a record of each run, with the columns of `FIELDS`."""
        return [{name: value(run) for name, value in COLUMNS.items()} for run in self.runs]

    def frame(self) -> DataFrame:
        """Return a row for each run: see `FIELDS`; times in s, sizes in bytes."""
        from pandas import DataFrame

        return DataFrame(self.records(), columns=list(FIELDS))

    def sharing(self) -> list[dict[str, Any]]:
        """Return, for each artifact, how much it adds to the artifacts before it."""
        shares = []
        for name in self.artifacts:
            needed = [run for run in self.runs if name in run.artifacts]
            added = [run for run in needed if run.artifacts[0] == name]
            specs, adds = ({run.spec for run in part} for part in (needed, added))
            share = {
                "artifact": name,
                "specs": len(specs),
                "shared": len(specs) - len(adds),
                "adds": len(adds),
                "open": sum(not run.done for run in added),
                "seconds_left": sum(run.seconds or 0.0 for run in added),
            }
            shares.append(share)
        return shares

    def cost(self, price: float | None = None) -> str:
        """Return the cost of what is left, in a sentence.

        Args:
            price: price of an hour of one GPU, or of this machine's CPU.
        """
        hours = self.wall_seconds / 3600 if self.gpu_hours is None else self.gpu_hours
        bill = "" if self.gpu_hours is None else f", {hours:.3g} GPU-hours"
        bill += "" if price is None else f", {hours * price:,.2f} at {price:g} an hour"
        operations = sum(2 * run.macs * run.left for run in self.runs)
        disk = sum(run.disk_bytes for run in self.open_runs)
        return (
            f"{len({run.spec for run in self.runs})} distinct experiments; "
            f"{len(self.open_runs)} of {len(self.runs)} runs to train: "
            f"{operations / 1e15:.3g} PFLOP, about {duration(self.wall_seconds)} on "
            f"{', '.join(self.devices)} ({self.at_once} at a time{bill}), "
            f"up to {disk / 1e6:,.0f} MB of checkpoints."
        )


def make_plan(
    runs: Sequence[PlannedRun],
    artifacts: Sequence[str],
    database: Database,
    executor: Executor,
    location: DataLocation,
) -> Plan:
    """Estimate the cost of runs; trains a few steps if the database has no times of the device.

    Raises:
        NoGPUError: see `with_estimates`.
    """
    machine, at_once = executor.machine, executor.room(sum(not run.done for run in runs))
    together, gpus = executor.on_one_machine(at_once), executor.gpus_of_a_run
    runs, sentences = with_estimates(runs, database, machine, together, gpus), []
    if executor.data_is_here:
        limits = data_limits(runs, machine, at_once, location)
        runs = with_decoding(runs, limits, shared=not machine.has_gpu)
        sentences = [limit.sentence() for limit in limits.values()]
    left = [run for run in runs if not run.done]
    seconds = sum(run.seconds or 0 for run in left)
    return Plan(
        tuple(artifacts),
        tuple(runs),
        machine.devices,
        at_once,
        wall_seconds(left, at_full_speed(machine, at_once, together)),
        seconds / 3600 * gpus if machine.has_gpu else None,
        tuple(sentences),
    )
