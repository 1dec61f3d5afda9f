"""Runs that artifacts need: which of them are done, what the rest costs, and the jobs to train."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dia_repro import plugins
from dia_repro.artifacts import Entry, TableArtifact
from dia_repro.execution.dialogue import duration
from dia_repro.execution.machine import Machine
from dia_repro.execution.messages import Job
from dia_repro.execution.requests import chosen_entries
from dia_repro.experiments.names import DataLocation
from dia_repro.experiments.protocols import Request
from dia_repro.experiments.spec import Spec
from dia_repro.models import Counts, count
from dia_repro.results import writer
from dia_repro.results.database import Database
from dia_repro.results.queries import RunSummary, gpu_memory, runs_of
from dia_repro.results.schema import DONE
from dia_repro.training.store import Store

if TYPE_CHECKING:
    from pandas import DataFrame

BACKWARD_AND_FORWARD = 3
# Weights and momentum in float32, in the two checkpoints that a run keeps while it trains.
CHECKPOINT_BYTES_PER_PARAMETER = 2 * 2 * 4
# Memory of a GPU: weights, gradients and momentum in float32; numbers that the backward pass keeps
# for each output of a layer (2.2 to 3.7 by torch's operations, 1.0 to 2.3 by the fast ones,
# measured on a CPU); images that stay there, test images included; CUDA's own.
GPU_BYTES_PER_PARAMETER = 3 * 4
KEPT_PER_OUTPUT = 3
RESIDENT_SIDE, RESIDENT_SHARE = 64, 1.2
CUDA_BYTES = 1_000_000_000


@dataclass(frozen=True)
class PlannedRun:
    """A run that artifacts need.

    Attributes:
        artifacts: names of all artifacts that need it, in the order asked for.
        training_images: number of training images of its data.
        run: the run in the database, if it is there.
        seconds: estimated time that is left to train; None before `estimates.with_estimates`.
    """

    artifacts: tuple[str, ...]
    training_images: int
    spec: Spec
    seed: int
    run: RunSummary | None
    seconds: float | None = None

    @property
    def label(self) -> str:
        """Return its name for people: "SENet ResNet83 r=16 on digits, seed 0"."""
        return f"{self.spec.label}, seed {self.seed}"

    @property
    def done(self) -> bool:
        """Return whether it has a result."""
        return self.run is not None and self.run.state in DONE

    @property
    def counts(self) -> Counts:
        """Return the counts of its network, which are cached."""
        return count(self.spec.model, self.spec.data.classes, self.spec.data.image_size)

    @property
    def macs(self) -> int:
        """Return the multiply-accumulates of its whole training."""
        images = self.training_images * self.spec.recipe.epochs
        return self.counts.macs * BACKWARD_AND_FORWARD * images

    @property
    def left(self) -> float:
        """Return the part that is still to train, from 0 to 1."""
        if self.done:
            return 0.0
        epochs = self.run.epochs if self.run else 0
        return max(0.0, 1 - epochs / self.spec.recipe.epochs)

    @property
    def memory_bytes(self) -> int:
        """Return the estimated bytes that training takes on a GPU.

        On a CPU it takes less: 0.4 to 1.0 times as much (35 networks, on digits and CIFAR images).
        """
        data, batch = self.spec.data, self.spec.recipe.batch_size
        number = 2 if self.spec.precision == "bf16" else 4
        kept = self.counts.outputs * batch * number * KEPT_PER_OUTPUT
        images = 0.0
        if data.image_size <= RESIDENT_SIDE:
            images = self.training_images * RESIDENT_SHARE * 3 * data.image_size**2
        return round(CUDA_BYTES + self.counts.parameters * GPU_BYTES_PER_PARAMETER + kept + images)

    @property
    def disk_bytes(self) -> int:
        """Return the bytes of its checkpoints while it trains."""
        return self.counts.parameters * CHECKPOINT_BYTES_PER_PARAMETER


# Columns of a plan, by name, from a planned run.
COLUMNS: dict[str, Callable[[PlannedRun], Any]] = {
    "network": lambda run: run.spec.model.label,
    "data": lambda run: run.spec.data.label,
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


def plan_runs(
    database: Database,
    artifacts: Iterable[TableArtifact],
    request: Request,
    seeds: Sequence[int],
    only: Sequence[str] = (),
) -> list[PlannedRun]:
    """Return each run that the artifacts need, once, in their order.

    Args:
        seeds: seeds that each spec is trained with.
        only: leave out networks whose names lack the words of all of these.

    Raises:
        NoSuchNetworkError: that leaves none.
    """
    first: dict[Spec, Entry] = {}
    needed_by: dict[Spec, list[str]] = {}
    for name, entry in chosen_entries(artifacts, only):
        spec = entry.spec(request)
        first.setdefault(spec, entry)
        needed_by.setdefault(spec, []).append(name)
    known = runs_of(database, (spec.spec_id for spec in first))
    planned = []
    for spec, entry in first.items():
        by_seed = {run.seed: run for run in known[spec.spec_id]}
        images = entry.data(request).training_images or 0
        names = tuple(dict.fromkeys(needed_by[spec]))
        planned += [PlannedRun(names, images, spec, seed, by_seed.get(seed)) for seed in seeds]
    return planned


def longest_first(planned: Iterable[PlannedRun]) -> list[PlannedRun]:
    """Return the runs that are not done, the longest first, so that the last ones are short."""
    return sorted((run for run in planned if not run.done), key=lambda run: -run.macs)


def make_jobs(
    open_runs: Sequence[PlannedRun],
    database: Database,
    machine: Machine,
    threads: int,
    data: DataLocation,
    command: str,
    checkpoints: Store,
    **settings: Any,
) -> list[Job]:
    """Enter runs that are to be trained into the database, and describe each for a worker.

    Args:
        threads: CPU threads of each run.
        settings: further fields of `Job`, the same for all runs.
    """
    specs = {run.spec.spec_id: run.spec.canonical_json() for run in open_runs}
    seen = gpu_memory(database) if machine.has_gpu else {}
    memory = {spec_id: CUDA_BYTES + measured for spec_id, measured in seen.items()}
    numbers = writer.ensure_runs(database, specs, sorted({run.seed for run in open_runs}))
    return [
        Job(
            run_id=numbers[run.spec.spec_id, run.seed],
            label=run.label,
            spec_json=specs[run.spec.spec_id],
            seed=run.seed,
            database=database.location,
            checkpoints=checkpoints,
            data=data,
            device=machine.devices[0],
            threads=threads,
            command=command,
            memory=memory.get(run.spec.spec_id) or run.memory_bytes,
            weight=run.macs,
            plugins=plugins.setting(),
            **settings,
        )
        for run in open_runs
    ]
