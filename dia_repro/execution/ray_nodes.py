"""Nodes of a Ray cluster: those that are there, a run's share of one, and a check of each."""

from __future__ import annotations

import logging
import math
import os
import socket
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import dia_repro
from dia_repro.errors import AbsentError, DiaReproError, displayed
from dia_repro.experiments.names import DataLocation
from dia_repro.experiments.spec import DataSpec
from dia_repro.training.environment import forget_settings
from dia_repro.training.probing import check_shared, probe
from dia_repro.training.store import Store

LOCAL = "local"  # without it Ray joins any cluster that runs on this machine
CONNECT_SECONDS = 5.0
PROBE_SECONDS = 120.0
# Bytes of a temporary folder in which Ray's sockets have paths that are short enough.
LONGEST_FOLDER = 30


class ClusterError(AbsentError):
    """No cluster answers there, or it does not answer any more."""


class UnfitNodeError(AbsentError):
    """A node could not train the runs that it would be given."""


@dataclass(frozen=True)
class Share:
    """Share of a node that a run takes.

    Attributes:
        gpus: number of GPUs, or a part of one; 0 where runs are trained on processors.
        cpus: threads of the processor.
    """

    gpus: float
    cpus: int

    @property
    def device(self) -> str:
        """Return the device as a worker sees it: Ray hides all GPUs but its own."""
        return "cuda:0" if self.gpus else "cpu"


@dataclass(frozen=True)
class Node:
    """A node that is alive, with all that Ray counts of it; memory in bytes."""

    identifier: str
    name: str
    gpus: float
    cpus: float
    memory: float = math.inf

    def room(self, share: Share) -> int:
        """Return the number of runs that it has room for at a time."""
        by_cpus = self.cpus / share.cpus
        return math.floor(min(by_cpus, self.gpus / share.gpus) if share.gpus else by_cpus)


@dataclass(frozen=True)
class Cluster:
    """The nodes that are alive."""

    nodes: tuple[Node, ...]

    def room(self, share: Share) -> int:
        """Return the number of runs that all nodes have room for at a time."""
        return sum(node.room(share) for node in self.nodes)

    def share(self, gpus: float) -> Share:
        """Return the share of each run with which every GPU, or every processor, has its runs.

        The node that has the fewest processors for each of its runs decides their number.

        Args:
            gpus: GPUs of each run, or the part of one; 0 for a processor.

        Raises:
            UnfitNodeError: no node has room for a run.
        """
        share = Share(gpus, 1)
        if gpus:
            runs = [(node, node.gpus / gpus) for node in self.nodes if node.gpus >= gpus]
            cpus = min((int(node.cpus // fit) for node, fit in runs if node.cpus >= 1), default=1)
            share = Share(gpus, max(1, cpus))
        if not self.room(share):
            has = "; ".join(f"{node.name}: {node.cpus:g} and {node.gpus:g}" for node in self.nodes)
            needs = "a processor"
            if gpus:
                needs += f" and {gpus:g} GPUs" if gpus > 1 else " and a GPU"
            raise UnfitNodeError(
                f"no node of the cluster has room for a run, which takes {needs} "
                f"(processors and GPUs of {has})"
            )
        return share


def connect(address: str | None) -> Cluster:
    """Join a cluster, or start one on this machine alone.

    Args:
        address: `host:port`, `auto`, or None for this machine.

    Raises:
        ClusterError: no cluster answers, or the versions of Ray or Python differ.
    """
    if address is not None and address != "auto":
        _knock(address)
    # What goes wrong is told in one line; the library underneath would say it in its own words.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if len(os.fsencode(tempfile.gettempdir())) > LONGEST_FOLDER:
        os.environ.setdefault("RAY_TMPDIR", "/tmp")  # noqa: S108
    # What nodes report, such as tasks begun again, Ray prints among our lines; no setting of its
    # own stops that.
    ray._private.worker.print_to_stdstream = lambda *_, **__: None
    try:
        with _silent():  # it would say that it was told to be silent
            ray.init(
                address=address or LOCAL,
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=False if address is None else None,
                ignore_reinit_error=True,
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ClusterError(f"no Ray cluster at {displayed(str(address))}: {reason}") from error
    return alive()


def alive() -> Cluster:
    """Return the cluster that this process has joined, as it is now."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return Cluster(tuple(_node(known) for known in nodes if known["Alive"]))


def _node(known: dict[str, Any]) -> Node:
    resources, address = known["Resources"], known["NodeManagerAddress"]
    # A name is given with `ray start --node-name`; else it is the address, and the host says more.
    named = known["NodeName"] if known["NodeName"] != address else known["NodeManagerHostname"]
    counted = (resources.get(name, 0.0) for name in ("GPU", "CPU", "memory"))
    return Node(known["NodeID"], named, *counted)


@contextmanager
def _silent() -> Iterator[None]:
    """Discard what is written to the standard error, by libraries of other languages, too."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _knock(address: str) -> None:
    # Ray itself keeps trying for a minute.
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 0), CONNECT_SECONDS):
            pass
    except (OSError, ValueError) as error:
        raise ClusterError(f"no Ray cluster at {displayed(address)}: {error}") from error


def check_nodes(
    cluster: Cluster,
    share: Share,
    specs: Sequence[DataSpec],
    data: DataLocation,
    checkpoints: Store,
) -> None:
    """Find out before any training whether nodes have what it takes.

    That is the data, this machine's versions, and the same store of checkpoints as this machine.
    Nodes that have no room for a run are not asked.

    Raises:
        NoStoreError: not even this machine can write checkpoints there.
        UnfitNodeError: some nodes have not; all of them are named.
    """
    store, problems = checkpoints.absolute(), defaultdict[str, list[str]](list)
    texts = [spec.model_dump_json() for spec in dict.fromkeys(specs)]
    with probe(store) as mark:
        asked = {
            on_node(_probe, node.identifier).remote(texts, data.absolute(), store, mark): node
            for node in cluster.nodes
            if node.room(share)
        }
        answers, _ = ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_SECONDS)
        for reference, node in asked.items():
            problem = _problem(reference) if reference in answers else "does not answer"
            if problem:
                problems[problem].append(node.name)
    if problems:
        raise UnfitNodeError("; ".join(f"node {', '.join(n)}: {p}" for p, n in problems.items()))


def _problem(reference: Any) -> str | None:
    ours = _versions()
    try:
        theirs, problem = ray.get(reference)
    except RayError as error:
        return f"cannot train: {str(error).strip().splitlines()[-1]}"
    if theirs != ours:
        return f"has {theirs}, and this machine {ours}"
    return None if problem is None else str(problem)


def on_node(task: Any, node: str) -> Any:
    """Return a task or actor of a node, which takes nothing of the runs' share."""
    strategy = NodeAffinitySchedulingStrategy(node, soft=False)
    return task.options(scheduling_strategy=strategy, num_cpus=0)


def _versions() -> str:
    from importlib.metadata import version

    return f"dia-repro {dia_repro.__version__}, torch {version('torch')}"


@ray.remote
def _probe(
    specs: Sequence[str], data: DataLocation, store: Store, mark: str
) -> tuple[str, str | None]:
    """Return this node's versions, and why it cannot use some of the data or the store, if so."""
    forget_settings()  # of the shell that the node was started from
    from dia_repro.data import load

    try:
        for text in specs:
            load(DataSpec.model_validate_json(text), data)
        check_shared(store, mark)
    except DiaReproError as error:
        return _versions(), str(error)
    return _versions(), None
