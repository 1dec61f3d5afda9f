"""Measurement windows of candidates, taken in turn, each candidate in a separate process.

Taken in turn, so that other work of the machine affects all candidates equally; in processes, so
that they do not share threads, memory and compiled code.
"""

from __future__ import annotations

import multiprocessing
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import chain
from multiprocessing.connection import Connection
from typing import cast

import torch

from benchmarks.measurements import BenchmarkError, Series, Window
from benchmarks.step.candidates import Mode, Task, stream
from dia_repro.training.environment import SAFE_PATH, TRAINING, environment
from dia_repro.training.numerics import prepare_process, use_device


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
        windows: number of windows of each group.
        seconds: shortest window; a window ends with an epoch's evaluation.
        deadline: value of `time.monotonic` after which no more windows are taken, once each group
            has one.

    Raises:
        BenchmarkError: a candidate failed, with its reason, or was not ready before the deadline.
    """
    context = multiprocessing.get_context("spawn")
    candidates: list[list[_Candidate]] = []
    try:
        for group in groups:
            candidates += [[_Candidate(context, task) for task in group]]
        for candidate in chain.from_iterable(candidates):
            candidate.wait_until_ready(deadline)
        for group_of in candidates:
            _window(group_of, 0)  # to warm up
        taken: list[list[Window]] = [[] for _ in groups]
        for number in range(windows):
            if number and deadline is not None and time.monotonic() > deadline:
                break
            for found, group_of in zip(taken, candidates, strict=True):
                found.append(_window(group_of, seconds))
                on_window()
    finally:
        for candidate in chain.from_iterable(candidates):
            candidate.close()
    return [
        Series(tuple(found), group_of[0].how, max(c.start_seconds for c in group_of))
        for found, group_of in zip(taken, candidates, strict=True)
    ]


def _window(candidates: Sequence[_Candidate], seconds: float) -> Window:
    for candidate in candidates:
        candidate.connection.send(seconds)
    parts = [cast("tuple[int, float]", candidate.receive()) for candidate in candidates]
    return Window(sum(images for images, _ in parts), max(elapsed for _, elapsed in parts))


class _Candidate:
    def __init__(self, context: multiprocessing.context.SpawnContext, task: Task) -> None:
        self.task = task
        self.how, self.start_seconds = "", 0.0
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(task, theirs), daemon=False)
        with environment(SAFE_PATH | ({} if task.mode is Mode.REFERENCE else TRAINING)):
            self.process.start()
        theirs.close()

    def receive(self) -> object:
        """Return the candidate's next message; text is the reason why it failed."""
        try:
            message: object = self.connection.recv()
        except EOFError:
            raise BenchmarkError(f"{self.task.mode}: its process died") from None
        if isinstance(message, str):
            raise BenchmarkError(f"{self.task.mode}: {message}")
        return message

    def wait_until_ready(self, deadline: float | None) -> None:
        """Wait until its first step is done."""
        if deadline is not None and not self.connection.poll(max(0, deadline - time.monotonic())):
            raise BenchmarkError(f"{self.task.mode}: not ready in time")
        self.how, self.start_seconds = cast("tuple[str, float]", self.receive())

    def close(self) -> None:
        """End its process."""
        self.connection.close()
        self.process.join(10 if self.how else 0)  # a candidate that is not ready does not listen
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _serve(task: Task, connection: Connection) -> None:
    started = time.perf_counter()
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    # A loader's processes start as in a script, not by this process's method.
    multiprocessing.set_start_method(None, force=True)
    try:
        device = torch.device(task.device)
        if task.mode is Mode.REFERENCE:
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
    except (OSError, KeyboardInterrupt):  # the other end is closed
        pass
    except Exception as error:  # reported in one line
        connection.send(f"{type(error).__name__}: {error}".splitlines()[0])
