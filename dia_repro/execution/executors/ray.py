"""Ray executor: runs as tasks of a cluster, each with its share of a node.

Runs of a lost node go on elsewhere. Workers reach PostgreSQL themselves. A SQLite file is written
by one process alone, the relay, which is an actor on the machine that started the runs.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import ray
from ray.exceptions import RayError, TaskCancelledError

from dia_repro import interrupts
from dia_repro.errors import DiaReproError
from dia_repro.execution import ray_nodes, worker
from dia_repro.execution.dialogue import Dialogue, Listener
from dia_repro.execution.endings import (
    STOPPED_AT_ONCE,
    OnMessage,
    Signals,
    Supervised,
    Supervisor,
)
from dia_repro.execution.executors import Executor, register
from dia_repro.execution.machine import Machine, NoGPUError
from dia_repro.execution.messages import Ended, Job, Message, Outcome
from dia_repro.execution.options import Device, Resources
from dia_repro.execution.ray_nodes import Share
from dia_repro.execution.run_store import RunStore
from dia_repro.experiments.names import DataLocation
from dia_repro.experiments.spec import DataSpec
from dia_repro.results.backends import sqlite_path
from dia_repro.results.database import Database
from dia_repro.training.environment import forget_settings
from dia_repro.training.store import Store

EXCHANGE_SECONDS = 0.5
# Estimated: a process that trains on a GPU has CUDA's libraries, and images on their way to it.
HOST_BYTES_WITH_GPU = 4_000_000_000
# Lost nodes or killed processes after which a run counts as failed.
RETRIES = 3


@register("ray")
class Ray(Executor):
    """Tasks of a Ray cluster, each with the same share of a node."""

    options = frozenset({"per_gpu", "gpus_per_run", "address"})

    def __init__(self, resources: Resources, _dialogue: Dialogue) -> None:
        self.cluster = ray_nodes.connect(resources.address)
        gpus_there = any(node.gpus for node in self.cluster.nodes)
        on_gpus = resources.device is not Device.CPU and gpus_there
        many = resources.per_gpu or resources.gpus_per_run
        if not on_gpus and (many or resources.device is Device.CUDA):
            raise NoGPUError("no node of the cluster has a GPU that Ray knows of")
        gpus = (resources.gpus_per_run or 1 / (resources.per_gpu or 1)) if on_gpus else 0
        self.share = self.cluster.share(gpus)
        self.largest = max(node.room(self.share) for node in self.cluster.nodes)
        cores = self.share.cpus * self.largest
        super().__init__(Machine((self.share.device,), cores), self.share.gpus or 1)

    def room(self, runs: int) -> int:
        """Return as many runs as the cluster has GPUs, or cores, for."""
        return max(1, min(self.cluster.room(self.share), runs))

    def on_one_machine(self, at_once: int) -> int:
        """Return what the largest node has room for; each run keeps its share of threads."""
        del at_once
        return self.largest

    def check(
        self, data: Sequence[DataSpec], location: DataLocation, store: Store, dialogue: Dialogue
    ) -> None:
        """Look at data, versions and the store of checkpoints on every node."""
        with dialogue.watch("Looking at the cluster's nodes"):
            ray_nodes.check_nodes(self.cluster, self.share, data, location, store)

    def supervisor(self, database: Database, runs: int, listener: Listener) -> RaySupervisor:
        """Return the supervisor, which takes any number of runs."""
        del runs
        return RaySupervisor(database, self.share, listener.on_message, listener.on_stopping)


@ray.remote(concurrency_groups={"messages": 1, "file": 1})  # type: ignore[call-overload]
class _Relay:
    """Relay between workers and the supervisor: messages, the wish to stop, the SQLite file.

    Only one of its two threads uses the file: while another program holds it, messages go on, and a
    wish to stop ends the wait for it.
    """

    def __init__(self, location: str | None) -> None:
        self.run_store = RunStore.at(location) if location else None
        self.messages: list[tuple[int, Message]] = []
        self.begun: set[int] = set()
        self.stopping = False

    @ray.method(concurrency_group="messages")
    def exchange(self, run_id: int, messages: Sequence[Message]) -> bool:
        """Take a worker's messages; return whether it is to stop."""
        self.begun.add(run_id)
        self.messages += [(run_id, message) for message in messages]
        return self.stopping

    @ray.method(concurrency_group="messages")
    def collect(self, stop: bool) -> tuple[list[tuple[int, Message]], set[int]]:
        """Return the messages since the last time, and the runs that a task has begun.

        Args:
            stop: whether workers are to save and end.
        """
        self.stopping = stop
        interrupts.note_wish(stop)
        messages, self.messages = self.messages, []
        return messages, self.begun

    @ray.method(concurrency_group="file")
    def write(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> object:
        """Call the run store; an error is returned, for Ray would wrap it."""
        try:
            return getattr(self.run_store, name)(*arguments, **options)
        except DiaReproError as error:
            return error


def _answer(reference: Any) -> Any:
    """Return the relay's answer to a task.

    `ray.get` would lend the task's processor to another one while it waits: a node of eight
    processors was seen to train twenty runs at a time.
    """
    return reference.future().result()


class _RemoteRunStore:
    """A run store whose calls the relay makes."""

    def __init__(self, relay: Any) -> None:
        self._relay = relay

    def close(self) -> None:
        """Do nothing: the relay goes on."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> object:
            answer = _answer(self._relay.write.remote(name, arguments, options))
            if isinstance(answer, DiaReproError):
                raise answer
            return answer

        return call


@contextmanager
def _channel(
    relay: Any, run_id: int
) -> Iterator[tuple[Callable[[Message], None], Callable[[], bool]]]:
    """Exchange messages with the relay every now and then; without a relay the worker stops.

    Yields:
        Functions that send a message, and tell whether to stop.
    """
    waiting: queue.SimpleQueue[Message] = queue.SimpleQueue()
    stop, ended = threading.Event(), threading.Event()

    def exchange() -> None:
        messages = [waiting.get() for _ in range(waiting.qsize())]
        try:
            if _answer(relay.exchange.remote(run_id, messages)):
                stop.set()
        except RayError:
            stop.set()

    def exchange_until_the_end() -> None:
        while not ended.wait(EXCHANGE_SECONDS):
            exchange()

    exchange()
    thread = threading.Thread(target=exchange_until_the_end, name="channel", daemon=True)
    thread.start()
    try:
        yield waiting.put, stop.is_set
    finally:
        ended.set()
        thread.join()
        exchange()


@ray.remote(max_retries=RETRIES)
def _train(
    job: Job, relay: Any, through_relay: bool, attempt: Callable[..., Ended]
) -> Ended | None:
    """Make one attempt at a run; return None where it was to stop before it began."""
    forget_settings()  # of the shell that the node was started from
    with _channel(relay, job.run_id) as (send, should_stop):
        if should_stop():
            return None
        run_store = cast("RunStore", _RemoteRunStore(relay)) if through_relay else None
        return attempt(job, send, should_stop, run_store)


def _first_line(error: RayError) -> str:
    """Return what an error says, or its name: a cancelled task's says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class RaySupervisor(Supervisor):
    """Supervisor that gives all jobs to the cluster at once; it trains as many as it has room for.

    Args:
        database, on_message, on_stopping: see `Supervisor`.
        share: share of a node that each run takes.
        attempt: function of a task; `worker.attempt` or the like.
    """

    def __init__(
        self,
        database: Database,
        share: Share,
        on_message: OnMessage,
        on_stopping: Callable[[], None] = lambda: None,
        attempt: Callable[..., Ended] = worker.attempt,
    ) -> None:
        super().__init__(database, on_message, on_stopping)
        self.share, self.attempt = share, attempt
        self._asked_to_stop = self._killed = False
        self._begun: set[int] = set()

    def run(self, jobs: Sequence[Job]) -> dict[int, Ended]:
        """Work through the jobs, in their order.

        Raises:
            ClusterError: the cluster is gone.
            VanishedError: the database is gone; runs under way have saved what they had.
        """
        try:
            ended = self._work(jobs)
        except RayError as error:
            raise ray_nodes.ClusterError(
                f"the Ray cluster is gone: {_first_line(error)} Runs are kept to their last "
                "epoch: the same command goes on"
            ) from error
        if self.gone:
            raise self.gone
        return ended

    def _work(self, jobs: Sequence[Job]) -> dict[int, Ended]:
        file = sqlite_path(self.database.location)
        here = ray.get_runtime_context().get_node_id()
        relay = ray_nodes.on_node(_Relay, here).remote(str(file.absolute()) if file else None)
        waiting = self._tasks(jobs, relay, through_relay=file is not None)
        by_run = {run.job.run_id: run for run in waiting.values()}
        ended: dict[int, Ended] = {}
        with Signals() as signals:
            while waiting:
                done, _ = ray.wait(
                    list(waiting), num_returns=len(waiting), timeout=EXCHANGE_SECONDS
                )
                self.clock()
                self.stopping = signals.stop
                winding_up = self.stopping or self.gone is not None
                messages, self._begun = ray.get(relay.collect.remote(winding_up))
                for run_id, message in messages:
                    self.hear(by_run[run_id], message)
                if winding_up:
                    self._stop(waiting, kill=signals.kill)
                for task in done:
                    run = waiting.pop(task)
                    if last := self._settle(task, run):
                        ended[run.job.run_id] = last
        ray.kill(relay)
        return ended

    def _tasks(
        self, jobs: Sequence[Job], relay: Any, *, through_relay: bool
    ) -> dict[Any, Supervised]:
        fit = (node for node in ray_nodes.alive().nodes if node.room(self.share))
        most, tasks = max((node.memory for node in fit), default=0.0), {}
        for job in jobs:
            need = HOST_BYTES_WITH_GPU if self.share.gpus else job.memory
            task = _train.options(
                num_gpus=self.share.gpus,
                num_cpus=self.share.cpus,
                # An estimate may be too high: no run needs more than a node has.
                memory=int(min(need, most)),
            )
            placed = job.elsewhere(device=self.share.device, threads=self.share.cpus)
            run = Supervised(job=job, patience=self.patience, clock=self.clock)
            tasks[task.remote(placed, relay, through_relay, self.attempt)] = run
        return tasks

    def _stop(self, waiting: dict[Any, Supervised], *, kill: bool) -> None:
        if not self._asked_to_stop:
            self._asked_to_stop = True
            if self.stopping:
                self.on_stopping()
            for task, run in waiting.items():
                if run.job.run_id not in self._begun:
                    ray.cancel(task)  # it waits for room
        self._killed = self._killed or kill
        for task, run in waiting.items():
            run.ask_to_stop()
            if kill or run.is_late:
                ray.cancel(task, force=True)

    def _settle(self, task: Any, run: Supervised) -> Ended | None:
        """Return how a run ended, after it is recorded; None where it had not begun."""
        killed = False
        try:
            ended = cast("Ended | None", ray.get(task))
        except RayError as error:
            if isinstance(error, TaskCancelledError) and run.job.run_id not in self._begun:
                return None
            ended = Ended(Outcome.FAILED, f"its task was lost: {_first_line(error)}")
            killed = self._killed or run.is_late
            if killed:
                ended = STOPPED_AT_ONCE if self._killed else run.killed_late
        return self.close(run, ended, killed=killed) if ended else None
