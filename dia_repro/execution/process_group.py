"""The processes that share one run: started, watched and ended by its first one.

The first one is a worker like any other. It alone uses the database and checkpoints and talks to
the process that started it; the others follow it step by step. They meet as `torchrun`'s do.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch import distributed

from dia_repro import interrupts
from dia_repro.data import load
from dia_repro.errors import DiaReproError
from dia_repro.execution import forkserver
from dia_repro.execution.endings import cause_of_death
from dia_repro.execution.messages import Job, Message, Notice
from dia_repro.training.distributed import ALONE, Group, joined
from dia_repro.training.numerics import prepare_process
from dia_repro.training.trainer import Diverged, Stopped, Trainer

HERE = "127.0.0.1"
READY = "ready"
# So long after a process was lost the first one may hang in an exchange with it.
GRACE_SECONDS = 30.0
LOOK_SECONDS = 0.5  # how often the first one looks up while it waits for the others
EXIT_CODE = 1


class LostProcessError(DiaReproError):
    """One of the processes that share a run has failed or was killed."""


@contextmanager
def process_group(
    job: Job,
    send: Callable[[Message], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Group]:
    """The processes of a job, this one the first of them; it alone where there are no others.

    Args:
        should_stop: asked while the others load the data, and in a thread while all train.

    Raises:
        LostProcessError: one of them failed.
        Stopped: `should_stop` said so before all of them had the data.
    """
    if job.processes == 1:
        yield ALONE
        return
    store = distributed.TCPStore(  # type: ignore[attr-defined]
        HERE, 0, is_master=True, wait_for_workers=False
    )
    os.environ.update(_environment(job, 0, store.port))
    others = _Others([], send, should_stop)
    try:
        for rank in range(1, job.processes):
            others.others.append(_start(job, rank, store.port))
        others.wait_until_ready()
        with others, joined(torch.device(job.device)) as group:
            yield group
    except RuntimeError as error:
        if others.lost is None:
            raise
        # Torch reports an exchange with a process that is gone.
        raise others.lost from error
    finally:
        others.end()


def _environment(job: Job, rank: int, port: int) -> Mapping[str, str]:
    """What `torchrun` would tell a process of one machine."""
    interface = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(job.processes),
        "MASTER_ADDR": HERE,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store listens at that port
        **interface,
    }


@dataclass
class _Other:
    rank: int
    process: BaseProcess
    connection: Connection

    def last_words(self) -> str | None:
        """Why it failed, if it could say so."""
        with suppress(EOFError, OSError):
            while self.connection.poll():
                words = self.connection.recv()
                if words != READY:
                    return str(words)
        return None


def _start(job: Job, rank: int, port: int) -> _Other:
    return _Other(rank, *forkserver.start_process(follow, job, rank, port))


class _Others:
    """All but the first; a context manager that watches them while it trains with them."""

    def __init__(
        self,
        others: list[_Other],
        send: Callable[[Message], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self.others, self.send, self.should_stop = others, send, should_stop
        self.lost: LostProcessError | None = None
        self._found, self._over = threading.Event(), threading.Event()

    def wait_until_ready(self) -> None:
        """Until each has the data and its network.

        Raises:
            LostProcessError: one has failed instead.
            Stopped: `should_stop` said so.
        """
        for one in self.others:
            while not wait([one.connection, one.process.sentinel], LOOK_SECONDS):
                if self.should_stop():
                    raise Stopped
                forkserver.resume()
            try:
                words = one.connection.recv()
            except EOFError:
                words = None
            if words != READY:
                raise self._describe(one, words)

    def end(self) -> None:
        """Leave none behind."""
        for one in self.others:
            forkserver.send_signal(one.process, signal.SIGKILL)
        for one in self.others:
            forkserver.join(one.process)

    def _describe(self, one: _Other, words: str | None) -> LostProcessError:
        forkserver.join(one.process)
        reason = words or cause_of_death(one.process.exitcode)
        number = f"process {one.rank + 1} of {len(self.others) + 1}"
        return LostProcessError(f"{number}: {reason}")

    def _watch(self) -> None:
        running = {one.process.sentinel: one for one in self.others}
        while running and not self._over.is_set():
            self._resume(running.values())
            for sentinel in wait(list(running), LOOK_SECONDS):
                one = running.pop(sentinel)  # type: ignore[arg-type]
                one.process.join()
                if one.process.exitcode and self.lost is None:
                    self.lost = self._describe(one, one.last_words())
                    self._found.set()
                    threading.Thread(target=self._insist, daemon=True).start()

    def _resume(self, running: Iterable[_Other]) -> None:
        """Continue stopped processes that would be waited for: the server, and at the end all."""
        forkserver.resume()
        if self.should_stop():
            for one in running:
                forkserver.send_signal(one.process, signal.SIGCONT)

    def _insist(self) -> None:
        # NCCL waits for the lost one in a place where no exception comes through.
        if not self._over.wait(GRACE_SECONDS):
            self.send(Notice(str(self.lost)))
            for one in self.others:  # a stopped one would not notice the end of this process
                forkserver.send_signal(one.process, signal.SIGKILL)
            os._exit(EXIT_CODE)

    def __enter__(self) -> _Others:
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, RuntimeError):
            self._found.wait(1.0)  # a lost connection is noticed before the death behind it
        self._over.set()
        self._watcher.join()


def follow(job: Job, rank: int, port: int, connection: Connection) -> None:
    """What a process does that is not the first: the same steps, until it is ended by that one."""
    interrupts.ignore()
    _end_with_parent()
    os.environ.update(_environment(job, rank, port))
    try:
        device = device_of(job, rank)
        prepare_process(threads_each(job), device, deterministic=job.deterministic)
        spec = job.spec
        dataset = load(spec.data, job.data)
        connection.send(READY)
        with joined(device) as group:
            trainer = Trainer(spec, job.seed, dataset, device, threads_each(job), group)
            saved: dict[str, Any] | None = group.from_first(None)
            if saved is not None:
                trainer.load_state(saved)
            while not trainer.finished:
                trainer.run_epoch()
    except Diverged:
        return
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}".splitlines()[0])
        sys.exit(EXIT_CODE)


def device_of(job: Job, rank: int) -> torch.device:
    """GPUs of a run are neighbours; processes on a CPU share it."""
    first = torch.device(job.device)
    return torch.device("cuda", (first.index or 0) + rank) if first.type == "cuda" else first


def threads_each(job: Job) -> int:
    """Of each process of a run."""
    return max(1, job.threads // job.processes)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(EXIT_CODE)

    threading.Thread(target=watch, daemon=True).start()
