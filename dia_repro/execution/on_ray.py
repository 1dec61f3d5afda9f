"""Runs as tasks of a Ray cluster, each with its share of a node; a lost node's go on elsewhere.

Workers reach PostgreSQL themselves. A SQLite file is written by one process alone, the board, which
is an actor on the machine of whoever started the runs.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, cast
from urllib.parse import urlsplit

import dia_repro
from dia_repro.errors import AbsentError, DiaReproError
from dia_repro.execution import worker
from dia_repro.execution.ledger import Ledger
from dia_repro.execution.messages import Ended, Message, Notice, Outcome, WorkOrder, describe_owner
from dia_repro.execution.stopping import Signals
from dia_repro.experiments.names import DataLocation
from dia_repro.experiments.spec import DataSpec
from dia_repro.results import writer
from dia_repro.results.backends import sqlite_path
from dia_repro.results.database import Database

try:
    import ray
    from ray.exceptions import RayError, TaskCancelledError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise AbsentError("Ray is not installed: pip install 'dia-repro[ray]'") from error

EXCHANGE_SECONDS = 0.5
CONNECT_SECONDS = 5.0
PROBE_SECONDS = 120.0
# After so many lost nodes or killed processes a run counts as failed.
RETRIES = 3


class ClusterError(AbsentError):
    """No cluster answers there."""


class UnfitNodeError(AbsentError):
    """A node could not train what it would be given."""


@dataclass(frozen=True)
class Share:
    """What a run takes of a node.

    Attributes:
        gpus: may be a part of one; 0 where runs are trained on processors.
        cpus: threads of the processor.
    """

    gpus: float
    cpus: int

    @property
    def device(self) -> str:
        """As a worker sees it: Ray hides all GPUs but its own."""
        return "cuda:0" if self.gpus else "cpu"


@dataclass(frozen=True)
class Cluster:
    """The nodes that are alive, by identifier with their names, and what they have in all."""

    nodes: tuple[tuple[str, str], ...]
    gpus: float
    cpus: float

    def room(self, share: Share) -> int:
        """Runs at a time."""
        return int(self.gpus / share.gpus if share.gpus else self.cpus / share.cpus)


def connect(address: str | None) -> Cluster:
    """Join a cluster, or start one on this machine alone.

    Args:
        address: `host:port`, `auto`, or None for this machine.

    Raises:
        ClusterError: nobody answers, or the versions of Ray or Python differ.
    """
    if address is not None and address != "auto":
        _knock(address)
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False if address is None else None,
            ignore_reinit_error=True,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ClusterError(f"no Ray cluster at {address}: {reason}") from error
    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return Cluster(
        tuple((node["NodeID"], node["NodeManagerHostname"]) for node in alive),
        sum(node["Resources"].get("GPU", 0.0) for node in alive),
        sum(node["Resources"].get("CPU", 0.0) for node in alive),
    )


def _knock(address: str) -> None:
    # Ray itself keeps trying for a minute.
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 0), CONNECT_SECONDS):
            pass
    except (OSError, ValueError) as error:
        raise ClusterError(f"no Ray cluster at {address}: {error}") from error


def check_nodes(cluster: Cluster, specs: Sequence[DataSpec], data: DataLocation) -> None:
    """Find out before any training whether every node has the data and this machine's versions.

    Raises:
        UnfitNodeError: one has not; it is named.
    """
    texts = [spec.model_dump_json() for spec in dict.fromkeys(specs)]
    asked = {
        _on_node(_probe, node).remote(texts, _absolute(data)): name for node, name in cluster.nodes
    }
    ours = _versions()
    for reference, name in asked.items():
        try:
            theirs, problem = ray.get(reference, timeout=PROBE_SECONDS)
        except RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise UnfitNodeError(f"node {name} cannot train: {reason}") from error
        if theirs != ours:
            raise UnfitNodeError(f"node {name} has {theirs}, and this machine {ours}")
        if problem:
            raise UnfitNodeError(f"node {name}: {problem}")


def _on_node(task: Any, node: str) -> Any:
    strategy = NodeAffinitySchedulingStrategy(node, soft=False)
    return task.options(scheduling_strategy=strategy, num_cpus=0)


def _versions() -> str:
    from importlib.metadata import version

    return f"dia-repro {dia_repro.__version__}, torch {version('torch')}"


def _absolute(data: DataLocation) -> DataLocation:
    return replace(data, root=data.root.absolute())


@ray.remote
def _probe(specs: Sequence[str], data: DataLocation) -> tuple[str, str | None]:
    """This node's versions, and why it cannot train on some of the data."""
    from dia_repro.data import load

    try:
        for text in specs:
            load(DataSpec.model_validate_json(text), data)
    except DiaReproError as error:
        return _versions(), str(error)
    return _versions(), None


@ray.remote
class _Board:
    """Between workers and whoever started them: messages, the wish to stop, the SQLite file."""

    def __init__(self, location: str | None) -> None:
        self.ledger = Ledger.at(location) if location else None
        self.messages: list[tuple[int, Message]] = []
        self.owners: dict[int, str] = {}
        self.stopping = False

    def exchange(self, run_id: int, owner: str, messages: Sequence[Message]) -> bool:
        """Take a worker's messages; whether it is to stop."""
        self.owners[run_id] = owner
        self.messages += [(run_id, message) for message in messages]
        return self.stopping

    def collect(self) -> tuple[list[tuple[int, Message]], dict[int, str]]:
        """Messages since the last time, and who has begun which run since then."""
        messages, self.messages = self.messages, []
        owners, self.owners = self.owners, {}
        return messages, owners

    def stop(self) -> None:
        """Workers are to save and end."""
        self.stopping = True

    def write(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> object:
        """Call the ledger; an error is returned, for Ray would wrap it."""
        try:
            return getattr(self.ledger, name)(*arguments, **options)
        except DiaReproError as error:
            return error


class _RemoteLedger:
    """A ledger whose calls the board makes."""

    def __init__(self, board: Any) -> None:
        self._board = board

    def close(self) -> None:
        """Nothing: the board goes on."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> object:
            answer = ray.get(self._board.write.remote(name, arguments, options))
            if isinstance(answer, DiaReproError):
                raise answer
            return answer

        return call


class _Line(threading.Thread):
    """A worker's line to the board; a context manager. Without a board the worker stops."""

    def __init__(self, board: Any, run_id: int) -> None:
        super().__init__(name="line", daemon=True)
        self.board, self.run_id = board, run_id
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
        owner = describe_owner(os.getpid())
        try:
            stop = ray.get(self.board.exchange.remote(self.run_id, owner, messages))
        except RayError:
            stop = True
        self.stop_requested = self.stop_requested or stop

    def run(self) -> None:
        """Exchange every now and then."""
        while not self._ended.wait(EXCHANGE_SECONDS):
            self.exchange()

    def __enter__(self) -> _Line:
        self.exchange()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()
        self.exchange()


@ray.remote(max_retries=RETRIES)
def _train(
    order: WorkOrder, board: Any, through_board: bool, attempt: Callable[..., Ended]
) -> Ended | None:
    """One attempt at a run; None where it was to stop before it began."""
    with _Line(board, order.run_id) as line:
        if line.stop_requested:
            return None
        ledger = cast("Ledger", _RemoteLedger(board)) if through_board else None
        return attempt(order, line.send, lambda: line.stop_requested, ledger)


class RayExecutor:
    """Gives all orders to the cluster at once, which works on as many as it has room for.

    Args:
        database: on this machine, or a server that all nodes reach.
        share: what each run takes.
        on_message: called in this process with whatever workers say.
        on_stopping: called once when a signal has come and workers are saving.
        attempt: what a task does with its order; `worker.attempt` or the like.
    """

    def __init__(
        self,
        database: Database,
        share: Share,
        on_message: Callable[[WorkOrder, Message], None],
        on_stopping: Callable[[], None] = lambda: None,
        attempt: Callable[..., Ended] = worker.attempt,
    ) -> None:
        self.database, self.share, self.attempt = database, share, attempt
        self.on_message, self.on_stopping = on_message, on_stopping
        self.stopping = False
        self._owners: dict[int, str] = {}

    def run(self, orders: Sequence[WorkOrder]) -> dict[int, Ended]:
        """Work through the orders, in their order.

        Returns:
            How each order that was started ended, by run number.
        """
        file = sqlite_path(self.database.location)
        here = ray.get_runtime_context().get_node_id()
        board = _on_node(_Board, here).remote(str(file.absolute()) if file else None)
        task = _train.options(num_gpus=self.share.gpus, num_cpus=self.share.cpus)
        waiting = {
            task.remote(self._placed(order), board, file is not None, self.attempt): order
            for order in orders
        }
        by_run = {order.run_id: order for order in orders}
        ended: dict[int, Ended] = {}
        with Signals() as signals:
            while waiting:
                done, _ = ray.wait(
                    list(waiting), num_returns=len(waiting), timeout=EXCHANGE_SECONDS
                )
                if signals.stop:
                    self._stop(board, waiting, kill=signals.kill)
                self._listen(board, by_run)
                for one in done:
                    order = waiting.pop(one)
                    last = self._settle(one, order)
                    if last is not None:
                        ended[order.run_id] = last
                        self.on_message(order, last)
        ray.kill(board)
        return ended

    def _placed(self, order: WorkOrder) -> WorkOrder:
        # Workers have another working folder.
        return replace(
            order,
            device=self.share.device,
            threads=self.share.cpus,
            checkpoints=order.checkpoints.absolute(),
            data=_absolute(order.data),
        )

    def _listen(self, board: Any, by_run: dict[int, WorkOrder]) -> None:
        messages, owners = ray.get(board.collect.remote())
        self._owners.update(owners)
        for run, message in messages:
            self.on_message(by_run[run], message)

    def _stop(self, board: Any, waiting: dict[Any, WorkOrder], *, kill: bool) -> None:
        if not self.stopping:
            self.stopping = True
            ray.get(board.stop.remote())
            self.on_stopping()
            for one, order in waiting.items():
                if order.run_id not in self._owners:
                    ray.cancel(one)  # it waits for room
        if kill:
            for one in waiting:
                ray.cancel(one, force=True)

    def _settle(self, task: Any, order: WorkOrder) -> Ended | None:
        try:
            return cast("Ended | None", ray.get(task))
        except TaskCancelledError:
            return None
        except RayError as error:
            reason = f"its task was lost: {str(error).strip().splitlines()[0]}"
        owner = self._owners.get(order.run_id, "")
        try:
            writer.record_failure(self.database, order.run_id, owner, reason)
        except DiaReproError as unrecorded:
            with suppress(DiaReproError):
                self.on_message(order, Notice(f"its failure could not be recorded: {unrecorded}"))
        return Ended(Outcome.FAILED, reason)
