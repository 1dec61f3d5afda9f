"""Process group of one run: the first process starts, watches and ends the others.

The first process is a worker like any other. It alone uses the database and checkpoints, and talks
to the process that started it; the others follow it step by step. They meet as `torchrun`'s do.
"""

from __future__ import annotations

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
from dia_repro.errors import DiaReproError, reason_of
from dia_repro.execution import forkserver
from dia_repro.execution.endings import cause_of_death
from dia_repro.execution.messages import Job, Message, Notice
from dia_repro.training.distributed import ALONE, Group, joined
from dia_repro.training.numerics import prepare_process
from dia_repro.training.trainer import Diverged, Stopped, Trainer

HERE = "127.0.0.1"
READY = "ready"
# Time that the first process may hang in an exchange with a process that was lost.
GRACE_SECONDS = 30.0
LOOK_SECONDS = 0.5  # between two looks at the others while the first process waits for them
EXIT_CODE = 1


class LostProcessError(DiaReproError):
    """One of the processes that share a run has failed or was killed."""


@contextmanager
def process_group(
    job: Job,
    send: Callable[[Message], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Group]:
    """Form the group of a job's processes, this one the first of them.

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
    followers = _Followers([], send, should_stop)
    try:
        for rank in range(1, job.processes):
            started = forkserver.start_process(follow, job, rank, store.port)
            followers.followers.append(_Follower(rank, *started))
        followers.wait_until_ready()
        with followers, joined(torch.device(job.device)) as group:
            yield group
    except RuntimeError as error:
        if followers.lost is None:
            raise
        # Torch reports an exchange with a process that is gone.
        raise followers.lost from error
    finally:
        followers.end()


def _environment(job: Job, rank: int, port: int) -> Mapping[str, str]:
    """Return the variables that `torchrun` would set for a process of one machine."""
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
class _Follower:
    rank: int
    process: BaseProcess
    connection: Connection

    def message(self) -> str | None:
        """Return its next message, `READY` or why it failed, if there is one."""
        with suppress(EOFError, OSError):
            if self.connection.poll():
                return str(self.connection.recv())
        return None


@dataclass
class _Followers:
    """All processes but the first; a context manager that watches them while they train."""

    followers: list[_Follower]
    send: Callable[[Message], None]
    should_stop: Callable[[], bool]
    lost: LostProcessError | None = None

    def __post_init__(self) -> None:
        self._found, self._over = threading.Event(), threading.Event()

    def wait_until_ready(self) -> None:
        """Wait until each has the data and its network.

        Raises:
            LostProcessError: one has failed instead.
            Stopped: `should_stop` said so.
        """
        for follower in self.followers:
            while not wait([follower.connection, follower.process.sentinel], LOOK_SECONDS):
                if self.should_stop():
                    raise Stopped
                forkserver.resume()
            message = follower.message()
            if message != READY:
                raise self._describe(follower, message)

    def end(self) -> None:
        """Kill all of them, and wait for their ends."""
        _signal(self.followers, signal.SIGKILL)
        for follower in self.followers:
            forkserver.join(follower.process)

    def _describe(self, lost: _Follower, message: str | None) -> LostProcessError:
        forkserver.join(lost.process)
        reason = message or cause_of_death(lost.process.exitcode)
        number = f"process {lost.rank + 1} of {len(self.followers) + 1}"
        return LostProcessError(f"{number}: {reason}")

    def _watch(self) -> None:
        running = {follower.process.sentinel: follower for follower in self.followers}
        while running and not self._over.is_set():
            # Stopped processes would be waited for: the server, and at the end all.
            forkserver.resume()
            if self.should_stop():
                _signal(running.values(), signal.SIGCONT)
            for sentinel in wait(list(running), LOOK_SECONDS):
                follower = running.pop(sentinel)  # type: ignore[arg-type]
                follower.process.join()
                if follower.process.exitcode and self.lost is None:
                    self.lost = self._describe(follower, follower.message())
                    self._found.set()
                    threading.Thread(target=self._insist, daemon=True).start()

    def _insist(self) -> None:
        # NCCL waits for the lost process in C++ code, where no exception is raised.
        if not self._over.wait(GRACE_SECONDS):
            self.send(Notice(str(self.lost)))
            _signal(self.followers, signal.SIGKILL)  # a stopped one would not notice this one's end
            os._exit(EXIT_CODE)

    def __enter__(self) -> _Followers:
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, RuntimeError):
            self._found.wait(1.0)  # a lost connection is noticed before the death behind it
        self._over.set()
        self._watcher.join()


def follow(job: Job, rank: int, port: int, connection: Connection) -> None:
    """Run a process that is not the first: it makes the same steps until the first one ends it."""
    interrupts.ignore()
    forkserver.end_with_parent(EXIT_CODE)
    os.environ.update(_environment(job, rank, port))
    first = torch.device(job.device)
    # GPUs of a run are neighbours; processes on a CPU share it.
    device = torch.device("cuda", (first.index or 0) + rank) if first.type == "cuda" else first
    threads = threads_each(job)
    try:
        prepare_process(threads, device, deterministic=job.deterministic)
        spec = job.spec
        dataset = load(spec.data, job.data)
        connection.send(READY)
        with joined(device) as group:
            trainer = Trainer(spec, job.seed, dataset, device, threads, group)
            saved: dict[str, Any] | None = group.from_first(None)
            if saved is not None:
                trainer.load_state(saved)
            while not trainer.finished:
                trainer.run_epoch()
    except Diverged:
        return
    except Exception as error:
        connection.send(reason_of(error))
        sys.exit(EXIT_CODE)


def threads_each(job: Job) -> int:
    """Return the number of threads of each process of a run."""
    return max(1, job.threads // job.processes)


def _signal(followers: Iterable[_Follower], number: int) -> None:
    for follower in followers:
        forkserver.send_signal(follower.process, number)
