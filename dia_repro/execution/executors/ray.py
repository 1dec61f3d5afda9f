"""Ray executor: runs as tasks of a cluster, each with its share of a node.

Runs of a lost node go on elsewhere.

Workers reach PostgreSQL themselves. A SQLite file is written by one process alone, the relay, which
is an actor on the machine of whoever started the runs.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import ray
from ray.exceptions import RayError, TaskCancelledError

from dia_repro.errors import DiaReproError
from dia_repro.execution import worker
from dia_repro.execution.dialogue import Dialogue, Listener
from dia_repro.execution.endings import (
    SECONDS_TO_STOP,
    OnMessage,
    Pace,
    Signals,
    Supervisor,
)
from dia_repro.execution.executors import WaitingExecutor, register
from dia_repro.execution.machine import Machine, NoGPUError
from dia_repro.execution.messages import (
    STOPPED_AT_ONCE,
    Begun,
    Ended,
    Job,
    Message,
    Outcome,
)
from dia_repro.execution.options import Device, Resources
from dia_repro.execution.ray_nodes import (
    ClusterError,
    Share,
    absolute,
    alive,
    check_nodes,
    connect,
    on_node,
)
from dia_repro.execution.run_store import RunStore
from dia_repro.experiments.names import DataLocation
from dia_repro.experiments.spec import DataSpec
from dia_repro.results.backends import sqlite_path
from dia_repro.results.database import Database
from dia_repro.results.leases import Lease
from dia_repro.training.environment import forget_settings
from dia_repro.training.store import Store

EXCHANGE_SECONDS = 0.5
# Reckoned: a process that trains on a GPU holds CUDA's libraries, and images on their way to it.
BYTES_BESIDE_A_GPU = 4_000_000_000
# After so many lost nodes or killed processes a run counts as failed.
RETRIES = 3


@register("ray")
class Ray(WaitingExecutor):
    """Tasks of a Ray cluster, each with the same share of a node."""

    options = frozenset({"per_gpu", "gpus_per_run", "address"})

    def __init__(self, resources: Resources, dialogue: Dialogue) -> None:
        del dialogue
        self.cluster = connect(resources.address)
        on_gpus = resources.device is not Device.CPU and self.cluster.gpus > 0
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
            check_nodes(self.cluster, self.share, data, location, store)

    def supervisor(self, database: Database, runs: int, listener: Listener) -> RaySupervisor:
        """Return what gives runs to the cluster, however many there are."""
        del runs
        return RaySupervisor(database, self.share, listener.on_message, listener.on_stopping)


@ray.remote
class _Relay:
    """Between workers and whoever started them: messages, the wish to stop, the SQLite file."""

    def __init__(self, location: str | None) -> None:
        self.run_store = RunStore.at(location) if location else None
        self.messages: list[tuple[int, Message]] = []
        self.begun: set[int] = set()
        self.stopping = False

    def exchange(self, run_id: int, messages: Sequence[Message]) -> bool:
        """Take a worker's messages; whether it is to stop."""
        self.begun.add(run_id)
        self.messages += [(run_id, message) for message in messages]
        return self.stopping

    def collect(self) -> tuple[list[tuple[int, Message]], set[int]]:
        """Messages since the last time, and which runs a task has begun."""
        messages, self.messages = self.messages, []
        return messages, self.begun

    def stop(self) -> None:
        """Workers are to save and end."""
        self.stopping = True

    def write(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> object:
        """Call the run_store; an error is returned, for Ray would wrap it."""
        try:
            return getattr(self.run_store, name)(*arguments, **options)
        except DiaReproError as error:
            return error


def _answer(reference: Any) -> Any:
    """What the relay answers to a task.

    `ray.get` would lend the task's processor to another one while it waits: a node of eight
    processors was seen to train twenty runs at a time.
    """
    return reference.future().result()


class _RemoteRunStore:
    """A run store whose calls the relay makes."""

    def __init__(self, relay: Any) -> None:
        self._relay = relay

    def close(self) -> None:
        """Nothing: the relay goes on."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> object:
            answer = _answer(self._relay.write.remote(name, arguments, options))
            if isinstance(answer, DiaReproError):
                raise answer
            return answer

        return call


class _Channel(threading.Thread):
    """A worker's channel to the relay; a context manager. Without a relay the worker stops."""

    def __init__(self, relay: Any, run_id: int) -> None:
        super().__init__(name="channel", daemon=True)
        self.relay, self.run_id = relay, run_id
        self.stop_requested = False
        self._waiting: list[Message] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def send(self, message: Message) -> None:
        """To be on its way soon."""
        with self._lock:
            self._waiting.append(message)

    def exchange(self) -> None:
        """Send what waits, and hear whether to stop."""
        with self._lock:
            messages, self._waiting = self._waiting, []
        try:
            stop = _answer(self.relay.exchange.remote(self.run_id, messages))
        except RayError:
            stop = True
        self.stop_requested = self.stop_requested or stop

    def run(self) -> None:
        """Exchange every now and then."""
        while not self._ended.wait(EXCHANGE_SECONDS):
            self.exchange()

    def __enter__(self) -> _Channel:
        self.exchange()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()
        self.exchange()


@ray.remote(max_retries=RETRIES)
def _train(
    job: Job, relay: Any, through_relay: bool, attempt: Callable[..., Ended]
) -> Ended | None:
    """One attempt at a run; None where it was to stop before it began."""
    forget_settings()  # of the shell that the node was started from
    with _Channel(relay, job.run_id) as channel:
        if channel.stop_requested:
            return None
        run_store = cast("RunStore", _RemoteRunStore(relay)) if through_relay else None
        return attempt(job, channel.send, lambda: channel.stop_requested, run_store)


def _first_line(error: RayError) -> str:
    """Return what an error says, or its name: a cancelled task's says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class RaySupervisor(Supervisor):
    """Gives all jobs to the cluster at once, which works on as many as it has room for.

    Args:
        database, on_message, on_stopping: see `Supervisor`.
        share: what each run takes.
        attempt: what a task does with its job; `worker.attempt` or the like.
        patience: seconds that a run may take, once it is asked to stop, before it is killed.
    """

    def __init__(
        self,
        database: Database,
        share: Share,
        on_message: OnMessage,
        on_stopping: Callable[[], None] = lambda: None,
        attempt: Callable[..., Ended] = worker.attempt,
        patience: float = SECONDS_TO_STOP,
    ) -> None:
        super().__init__(database, on_message, on_stopping)
        self.share, self.attempt = share, attempt
        self._paces: defaultdict[int, Pace] = defaultdict(lambda: Pace(patience, self.clock))
        self._asked_to_stop = self._killed = False
        self._begun: set[int] = set()
        self._leases: dict[int, Lease] = {}

    def run(self, jobs: Sequence[Job]) -> dict[int, Ended]:
        """Work through the jobs, in their order.

        Returns:
            How each job that was started ended, by run number.

        Raises:
            ClusterError: the cluster is gone.
            VanishedError: the database is gone; runs under way have saved what they had.
        """
        try:
            ended = self._work(jobs)
        except RayError as error:
            reason = _first_line(error)
            raise ClusterError(
                f"the Ray cluster is gone: {reason} Runs are kept to their last epoch: "
                "the same command goes on"
            ) from error
        if self.gone:
            raise self.gone
        return ended

    def _work(self, jobs: Sequence[Job]) -> dict[int, Ended]:
        file = sqlite_path(self.database.location)
        here = ray.get_runtime_context().get_node_id()
        relay = on_node(_Relay, here).remote(str(file.absolute()) if file else None)
        most = alive().memory(self.share)
        waiting = {
            self._task(job, most).remote(
                self._placed(job), relay, file is not None, self.attempt
            ): job
            for job in jobs
        }
        by_run = {job.run_id: job for job in jobs}
        ended: dict[int, Ended] = {}
        with Signals() as signals:
            while waiting:
                done, _ = ray.wait(
                    list(waiting), num_returns=len(waiting), timeout=EXCHANGE_SECONDS
                )
                self.clock()
                self.stopping = signals.stop
                if self.stopping or self.gone:
                    self._stop(relay, waiting, kill=signals.kill)
                self._listen(relay, by_run)
                for one in done:
                    job = waiting.pop(one)
                    last = self._settle(one, job)
                    if last is not None:
                        ended[job.run_id] = last
                        if not self.gone:  # or they would all say the same
                            self.on_message(job, last)
        ray.kill(relay)
        return ended

    def _task(self, job: Job, most: float) -> Any:
        need = BYTES_BESIDE_A_GPU if self.share.gpus else job.memory
        return _train.options(
            num_gpus=self.share.gpus,
            num_cpus=self.share.cpus,
            # An estimate may be too high: no run is for want of memory without any node.
            memory=int(min(need, most)),
        )

    def _placed(self, job: Job) -> Job:
        # Workers have another working folder.
        return replace(
            job,
            device=self.share.device,
            threads=self.share.cpus,
            checkpoints=job.checkpoints.absolute(),
            data=absolute(job.data),
        )

    def _listen(self, relay: Any, by_run: dict[int, Job]) -> None:
        messages, self._begun = ray.get(relay.collect.remote())
        for run, message in messages:
            self._paces[run].hear(message)
            if isinstance(message, Begun):
                self._leases[run] = message.lease
            else:
                self.on_message(by_run[run], message)

    def _stop(self, relay: Any, waiting: dict[Any, Job], *, kill: bool) -> None:
        if not self._asked_to_stop:
            self._asked_to_stop = True
            ray.get(relay.stop.remote())
            if self.stopping:
                self.on_stopping()
            for one, job in waiting.items():
                if job.run_id not in self._begun:
                    ray.cancel(one)  # it waits for room
        self._killed = self._killed or kill
        for one, job in waiting.items():
            pace = self._paces[job.run_id]
            pace.ask()
            if kill or pace.is_over:
                ray.cancel(one, force=True)

    def _settle(self, task: Any, job: Job) -> Ended | None:
        try:
            ended = cast("Ended | None", ray.get(task))
        except RayError as error:
            if isinstance(error, TaskCancelledError) and job.run_id not in self._begun:
                return None
            reason = f"its task was lost: {_first_line(error)}"
            ended = Ended(Outcome.FAILED, reason)
            pace = self._paces[job.run_id]
            if self._killed or pace.is_over:
                at_once = Ended(Outcome.INTERRUPTED, STOPPED_AT_ONCE)
                ended = at_once if self._killed else pace.ended
                self.record(job, self._leases.get(job.run_id), ended, killed=True)
        if ended is not None and ended.outcome is Outcome.FAILED:
            self.record(job, self._leases.get(job.run_id), ended, killed=False)
        return ended
