"""Windows of training, taken in turn from contenders that each live in a process of their own.

In turn, so that whatever else the machine does meets all alike; in processes, so that threads,
memory and what the compiler keeps are each one's own.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import cast

import torch

from benchmarks.step.contenders import Task, Way, stream
from dia_repro.errors import DiaReproError
from dia_repro.training.environment import SAFE_PATH, TRAINING, environment
from dia_repro.training.numerics import prepare_process, use_device


class BenchError(DiaReproError):
    """A contender could not do its work."""


@dataclass(frozen=True)
class Window:
    """A stretch of training: images in so many seconds of wall time."""

    images: int
    seconds: float

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds


@dataclass(frozen=True)
class Series:
    """One contender's windows.

    Attributes:
        how: in which way its steps were made.
        start_seconds: from its process's start to the end of its first step: data, network,
            compilation and capture.
    """

    windows: tuple[Window, ...]
    how: str
    start_seconds: float

    @property
    def rate(self) -> float:
        """Median images a second."""
        return statistics.median(window.rate for window in self.windows)


def ratio(above: Series, below: Series) -> float:
    """Median of the ratios of rates, window by window as they were taken in turn."""
    pairs = zip(above.windows, below.windows, strict=True)
    return statistics.median(one.rate / other.rate for one, other in pairs)


def take_turns(
    groups: Sequence[Sequence[Task]],
    windows: int,
    seconds: float,
    on_window: Callable[[], None] = lambda: None,
    deadline: float | None = None,
) -> list[Series]:
    """Measure groups of tasks in turn; the tasks of one group train at the same time.

    Args:
        groups: each group's windows are the sums over its tasks.
        windows: of each group.
        seconds: of a window at least; it ends with an epoch's evaluation.
        deadline: of `time.monotonic`; after it no more windows are taken, once each group has one.

    Raises:
        BenchError: a contender failed, with its reason, or was not ready before the deadline.
    """
    context = multiprocessing.get_context("spawn")
    contenders: list[list[_Contender]] = []
    try:
        for group in groups:
            contenders += [[_Contender(context, task) for task in group]]
        for group_of in contenders:
            for one in group_of:
                one.wait_until_ready(deadline)
        for group_of in contenders:
            _window(group_of, 0)  # to warm up
        taken: list[list[Window]] = [[] for _ in groups]
        for number in range(windows):
            if number and deadline is not None and time.monotonic() > deadline:
                break
            for place, group_of in enumerate(contenders):
                taken[place].append(_window(group_of, seconds))
                on_window()
    finally:
        for group_of in contenders:
            for one in group_of:
                one.close()
    return [
        Series(tuple(one), group_of[0].how, max(c.start_seconds for c in group_of))
        for one, group_of in zip(taken, contenders, strict=True)
    ]


def _window(contenders: Sequence[_Contender], seconds: float) -> Window:
    for one in contenders:
        one.connection.send(seconds)
    parts = [cast("tuple[int, float]", one.receive()) for one in contenders]
    return Window(sum(images for images, _ in parts), max(elapsed for _, elapsed in parts))


class _Contender:
    def __init__(self, context: multiprocessing.context.SpawnContext, task: Task) -> None:
        self.task = task
        self.how, self.start_seconds = "", 0.0
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(task, theirs), daemon=False)
        with environment(SAFE_PATH | ({} if task.way is Way.REFERENCE else TRAINING)):
            self.process.start()
        theirs.close()

    def receive(self) -> object:
        """The contender's next word."""
        try:
            word = self.connection.recv()
        except EOFError:
            raise BenchError(f"{self.task.way}: its process died") from None
        if isinstance(word, str):
            raise BenchError(f"{self.task.way}: {word}")
        return cast("object", word)

    def wait_until_ready(self, deadline: float | None) -> None:
        """Wait until its first step is done."""
        if deadline is not None and not self.connection.poll(max(0, deadline - time.monotonic())):
            raise BenchError(f"{self.task.way}: not ready in time")
        self.how, self.start_seconds = cast("tuple[str, float]", self.receive())

    def close(self) -> None:
        """End its process."""
        self.connection.close()
        self.process.join(10 if self.how else 0)  # one that is not ready does not listen
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _serve(task: Task, connection: Connection) -> None:
    started = time.perf_counter()
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    # The platform's own way to start a loader's processes, as in a script: not this one's.
    multiprocessing.set_start_method(None, force=True)
    try:
        device = torch.device(task.device)
        if task.way is Way.REFERENCE:
            torch.set_num_threads(task.threads)
            use_device(device)
        else:
            prepare_process(task.threads, device, deterministic=task.deterministic)
        steps, wait, how = stream(task)
        next(steps)
        wait()
        connection.send((how, time.perf_counter() - started))
        while True:
            try:
                seconds = connection.recv()
            except EOFError:  # measured enough
                break
            begun, images = time.perf_counter(), 0
            step = 1
            while step or time.perf_counter() - begun < seconds:
                step = next(steps)
                images += step
            wait()
            connection.send((images, time.perf_counter() - begun))
    except (OSError, KeyboardInterrupt):  # nobody listens any more
        pass
    except Exception as error:  # told to whoever measures, in a line
        connection.send(f"{type(error).__name__}: {error}".splitlines()[0])
