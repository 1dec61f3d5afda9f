"""What runs are given to: worker processes of this machine, a Ray cluster, or Slurm."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dia_repro.cli import options
from dia_repro.cli.output import notice, watch
from dia_repro.errors import UsageError

if TYPE_CHECKING:
    from dia_repro.execution.machine import Machine
    from dia_repro.execution.messages import Ended, Message, WorkOrder
    from dia_repro.execution.on_slurm import Submission
    from dia_repro.execution.ray_nodes import Cluster, Share
    from dia_repro.execution.slots import Slots
    from dia_repro.experiments.names import DataLocation
    from dia_repro.experiments.spec import DataSpec
    from dia_repro.results.database import Database
    from dia_repro.training.store import Store

# Threads that prepare batches for a GPU, where Slurm is not told otherwise.
CPUS_BESIDE_A_GPU = 4

OnMessage = Callable[["WorkOrder", "Message"], None]


@dataclass(frozen=True)
class Resources:
    """What the options of a command ask for.

    Attributes:
        jobs: runs at a time.
        per_gpu: runs at a time on each GPU.
        gpus_per_run: GPUs of each run.
        slurm: options of `sbatch`, each as NAME=VALUE, or NAME for one without a value.
    """

    executor: options.Executor = options.Executor.LOCAL
    address: str | None = None
    device: options.Device | None = None
    jobs: int | None = None
    per_gpu: int | None = None
    gpus_per_run: int | None = None
    slurm: Sequence[str] = ()


class Executor(Protocol):
    """Works through orders; says whether a signal has stopped it."""

    stopping: bool

    def run(self, orders: Sequence[WorkOrder]) -> dict[int, Ended]:
        """How each order that was started ended, by run number."""


class Engine(Protocol):
    """Where runs are trained.

    Attributes:
        machine: this one, or one as the cluster's nodes are.
    """

    machine: Machine

    @property
    def gpus_of_a_run(self) -> float:
        """That it has to itself, or the part of one; 1 also where there are none."""

    def room(self, runs: int) -> int:
        """How many of so many runs are trained at a time."""

    def beside(self, at_once: int) -> int:
        """How many of those that are trained at a time are on one machine."""

    def check(self, data: Sequence[DataSpec], location: DataLocation, checkpoints: Store) -> None:
        """Find out before any worker starts what is missing, damaged or not to be written to."""


@dataclass
class Local:
    """Worker processes of this machine."""

    machine: Machine
    asked: Resources

    @property
    def gpus_of_a_run(self) -> float:
        """One unless told."""
        return self.asked.gpus_per_run or 1 / (self.asked.per_gpu or 1)

    def beside(self, at_once: int) -> int:
        """All of them."""
        return at_once

    def room(self, runs: int) -> int:
        """One for each GPU, or each core of a CPU, unless told."""
        return self._slots(runs).total

    def _slots(self, runs: int) -> Slots:
        asked = self.asked
        return self.machine.slots(runs, asked.jobs, asked.per_gpu, asked.gpus_per_run)

    def check(self, data: Sequence[DataSpec], location: DataLocation, checkpoints: Store) -> None:
        """Look through the data here, and write to the store of checkpoints."""
        _look_through(data, location, checkpoints)

    def executor(
        self, database: Database, runs: int, on_message: OnMessage, on_stopping: Callable[[], None]
    ) -> Executor:
        """Processes of this machine."""
        from dia_repro.execution.local import LocalExecutor

        return LocalExecutor(database, self._slots(runs), on_message, on_stopping)


@dataclass
class Ray:
    """Tasks of a Ray cluster, each with the same share of a node."""

    machine: Machine
    cluster: Cluster
    share: Share

    @property
    def gpus_of_a_run(self) -> float:
        """One unless told."""
        return self.share.gpus or 1

    def beside(self, at_once: int) -> int:
        """As many as the largest node has room for; each keeps its share of threads."""
        del at_once
        return max(node.room(self.share) for node in self.cluster.nodes)

    def room(self, runs: int) -> int:
        """As many as the cluster has GPUs, or cores, for."""
        return max(1, min(self.cluster.room(self.share), runs))

    def check(self, data: Sequence[DataSpec], location: DataLocation, checkpoints: Store) -> None:
        """Look through the data on every node, at its versions and at the store of checkpoints."""
        from dia_repro.execution.ray_nodes import check_nodes

        with watch("Looking at the cluster's nodes"):
            check_nodes(self.cluster, self.share, data, location, checkpoints)

    def executor(
        self, database: Database, runs: int, on_message: OnMessage, on_stopping: Callable[[], None]
    ) -> Executor:
        """Tasks of the cluster; how many runs there are is no matter."""
        del runs
        from dia_repro.execution.on_ray import RayExecutor

        return RayExecutor(database, self.share, on_message, on_stopping)


@dataclass
class Slurm:
    """Tasks of a Slurm job array, which are submitted and left alone."""

    machine: Machine
    submission: Submission

    @property
    def gpus_of_a_run(self) -> float:
        """One unless told."""
        return self.submission.gpus or 1

    def beside(self, at_once: int) -> int:
        """One: a task has its processors to itself."""
        del at_once
        return 1

    def room(self, runs: int) -> int:
        """As many as Slurm starts; for estimates, all, unless told."""
        return min(self.submission.at_once or runs, runs)

    def check(self, data: Sequence[DataSpec], location: DataLocation, checkpoints: Store) -> None:
        """Look here at what nodes are to find too."""
        from dia_repro.execution.on_slurm import check_slurm

        check_slurm()
        _look_through(data, location, checkpoints)

    def submit(self, orders: Sequence[WorkOrder]) -> tuple[str, ...]:
        """The numbers of the job arrays that do so many orders."""
        from dia_repro.execution.on_slurm import slurm_folder, submit

        return submit(orders, self.submission, slurm_folder(orders[0].database))


def _look_through(data: Sequence[DataSpec], location: DataLocation, checkpoints: Store) -> None:
    from dia_repro.data import load
    from dia_repro.execution.leasing import lock_location
    from dia_repro.training.probing import probe
    from dia_repro.training.store import Folder

    lock_location(Folder(checkpoints, ""))
    for spec in dict.fromkeys(data):
        with watch(f"Looking through {spec.dataset}") as on_progress:
            load(spec, location, on_progress)
    with probe(checkpoints):
        pass


def find_engine(asked: Resources) -> Local | Ray | Slurm:
    """The engine that was asked for.

    Raises:
        UsageError: options that do not go together.
        AbsentError: no such GPU, no such cluster, or what it needs is not installed.
    """
    if asked.address and asked.executor is not options.Executor.RAY:
        raise UsageError("--address is of a Ray cluster: add --executor ray")
    if asked.slurm and asked.executor is not options.Executor.SLURM:
        raise UsageError("--slurm is of a Slurm cluster: add --executor slurm")
    if asked.per_gpu and asked.gpus_per_run:
        raise UsageError("either --per-gpu or --gpus-per-run: several runs a GPU, or GPUs a run")
    if asked.executor is options.Executor.RAY:
        return _find_ray(asked)
    if asked.executor is options.Executor.SLURM:
        return _find_slurm(asked)
    from dia_repro.execution.machine import find_machine

    machine = find_machine(asked.device)
    for reason in machine.unusable:
        notice(f"Not used: {reason}.")
    return Local(machine, asked)


def _find_ray(asked: Resources) -> Ray:
    if asked.jobs:
        raise UsageError("--jobs is for this machine; a Ray cluster trains as many as it can")
    from dia_repro.execution.machine import Machine, NoGPUError
    from dia_repro.execution.ray_nodes import connect

    cluster = connect(asked.address)
    on_gpus = asked.device is not options.Device.CPU and cluster.gpus > 0
    for_gpus = asked.per_gpu or asked.gpus_per_run or asked.device is options.Device.CUDA
    if not on_gpus and for_gpus:
        raise NoGPUError("no node of the cluster has a GPU that Ray knows of")
    share = cluster.share((asked.gpus_per_run or 1 / (asked.per_gpu or 1)) if on_gpus else 0)
    largest = max(node.room(share) for node in cluster.nodes)
    return Ray(Machine((share.device,), share.cpus * largest), cluster, share)


def _find_slurm(asked: Resources) -> Slurm:
    if asked.per_gpu:
        raise UsageError("--per-gpu is not for Slurm, which gives each task GPUs of its own")
    from dia_repro.execution.machine import Machine
    from dia_repro.execution.on_slurm import Submission

    sbatch = dict(_name_and_value(text) for text in asked.slurm)
    on_cpu = asked.device is options.Device.CPU
    if on_cpu and asked.gpus_per_run:
        raise UsageError("--gpus-per-run and --device cpu do not go together")
    gpus = 0 if on_cpu else asked.gpus_per_run or 1
    cpus = str(sbatch.pop("cpus-per-task", CPUS_BESIDE_A_GPU * gpus or 1))
    if not re.fullmatch("[1-9][0-9]{0,3}", cpus):
        raise UsageError(f"--slurm cpus-per-task={cpus}: a number from 1 to 9999")
    submission = Submission(asked.jobs, gpus, int(cpus), sbatch)
    submission.parameters()  # refuses what it cannot be
    return Slurm(Machine(("cpu" if on_cpu else "cuda:0",), int(cpus)), submission)


def _name_and_value(text: str) -> tuple[str, str | bool]:
    name, equals, value = text.partition("=")
    if not name.strip("-") or " " in name or (equals and not value):
        raise UsageError(f"--slurm {text}: an option of sbatch, as NAME=VALUE or NAME")
    return name, value if equals else True
