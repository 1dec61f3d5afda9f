"""What runs are given to: worker processes of this machine, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dia_repro.cli import options
from dia_repro.cli.output import watch
from dia_repro.errors import UsageError

if TYPE_CHECKING:
    from dia_repro.execution.machine import Machine
    from dia_repro.execution.messages import Ended, Message, WorkOrder
    from dia_repro.execution.ray_nodes import Cluster, Share
    from dia_repro.experiments.names import DataLocation
    from dia_repro.experiments.spec import DataSpec
    from dia_repro.results.database import Database

OnMessage = Callable[["WorkOrder", "Message"], None]


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
    def gpus(self) -> float:
        """GPUs in all; 0 where runs are trained on processors."""

    def room(self, runs: int) -> int:
        """How many of so many runs are trained at a time."""

    def beside(self, at_once: int) -> int:
        """How many of those that are trained at a time are on one machine."""

    def check(self, data: Sequence[DataSpec], location: DataLocation) -> None:
        """Find out before any worker starts whether data are missing or damaged."""

    def executor(
        self, database: Database, runs: int, on_message: OnMessage, on_stopping: Callable[[], None]
    ) -> Executor:
        """What works through so many orders."""


@dataclass
class Local:
    """Worker processes of this machine."""

    machine: Machine
    jobs: int | None
    per_gpu: int | None

    @property
    def gpus(self) -> float:
        """Of this machine."""
        return len(self.machine.devices) if self.machine.has_gpu else 0

    def beside(self, at_once: int) -> int:
        """All of them."""
        return at_once

    def room(self, runs: int) -> int:
        """One for each GPU, or each core of a CPU, unless told."""
        return self.machine.places(runs, self.jobs, self.per_gpu).total

    def check(self, data: Sequence[DataSpec], location: DataLocation) -> None:
        """Look through the data here."""
        from dia_repro.data import load

        for spec in dict.fromkeys(data):
            with watch(f"Looking through {spec.dataset}") as on_progress:
                load(spec, location, on_progress)

    def executor(
        self, database: Database, runs: int, on_message: OnMessage, on_stopping: Callable[[], None]
    ) -> Executor:
        """Processes of this machine."""
        from dia_repro.execution.local import LocalExecutor

        places = self.machine.places(runs, self.jobs, self.per_gpu)
        return LocalExecutor(database, places, on_message, on_stopping)


@dataclass
class Ray:
    """Tasks of a Ray cluster, each with the same share of a node."""

    machine: Machine
    cluster: Cluster
    share: Share

    @property
    def gpus(self) -> float:
        """Of all nodes."""
        return self.cluster.gpus if self.share.gpus else 0

    def beside(self, at_once: int) -> int:
        """As many as the largest node has room for; each keeps its share of threads."""
        del at_once
        return max(node.room(self.share) for node in self.cluster.nodes)

    def room(self, runs: int) -> int:
        """As many as the cluster has GPUs, or cores, for."""
        return max(1, min(self.cluster.room(self.share), runs))

    def check(self, data: Sequence[DataSpec], location: DataLocation) -> None:
        """Look through the data on every node, and at its versions."""
        from dia_repro.execution.ray_nodes import check_nodes

        with watch("Looking at the cluster's nodes"):
            check_nodes(self.cluster, self.share, data, location)

    def executor(
        self, database: Database, runs: int, on_message: OnMessage, on_stopping: Callable[[], None]
    ) -> Executor:
        """Tasks of the cluster; how many runs there are is no matter."""
        del runs
        from dia_repro.execution.on_ray import RayExecutor

        return RayExecutor(database, self.share, on_message, on_stopping)


def find_engine(
    executor: options.Executor,
    address: str | None,
    device: options.Device | None,
    jobs: int | None,
    per_gpu: int | None,
) -> Engine:
    """The engine that was asked for.

    Raises:
        UsageError: options that do not go together.
        AbsentError: no such GPU, no such cluster or no room in it, or Ray is not installed.
    """
    if executor is options.Executor.LOCAL:
        if address:
            raise UsageError("--address is of a Ray cluster: add --executor ray")
        from dia_repro.execution.machine import find_machine

        return Local(find_machine(device), jobs, per_gpu)
    if jobs:
        raise UsageError("--jobs is for this machine; a Ray cluster trains as many as it can")
    from dia_repro.execution.machine import Machine, NoGPUError
    from dia_repro.execution.ray_nodes import connect

    cluster = connect(address)
    on_gpus = device is not options.Device.CPU and cluster.gpus > 0
    if not on_gpus and (per_gpu or device is options.Device.CUDA):
        raise NoGPUError("no node of the cluster has a GPU that Ray knows of")
    share = cluster.share(on_gpus=on_gpus, per_gpu=per_gpu or 1)
    largest = max(node.room(share) for node in cluster.nodes)
    return Ray(Machine((share.device,), share.cpus * largest), cluster, share)
