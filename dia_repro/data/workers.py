"""Processes that decode images into memory that they share with the one that trains.

Torch's own loader is not used: it hands images over in /dev/shm, which containers make so small
(64 MB by default) that it waits without end and notices no signal. The memory here is part of no
file system, and `on_wait` is called several times a second.
"""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any

import numpy as np
import torch

from dia_repro.data.decoding import Decoded, Wanted
from dia_repro.data.registry import DataError

PREFETCHED = 24  # parts under way or waiting, at least: three of ImageNet's batches
LOOK_SECONDS = 0.2  # between two calls of `on_wait`

Part = tuple[np.ndarray, list[int]]  # (B, S, S, 3) uint8, and labels
Reply = list[int] | DataError


class DecodingWorkers:
    """Processes that decode parts of batches ahead of time.

    They are forked where that is possible, and end with this object or with its process.

    Args:
        decoded: the images.
        count: number of processes.
        part: largest number of images in a part.
    """

    def __init__(self, decoded: Decoded, count: int, part: int) -> None:
        forked = sys.platform == "linux"
        context: Any = multiprocessing.get_context("fork" if forked else "spawn")
        ahead = max(2, -(-PREFETCHED // count))
        shape = (count * ahead, part, decoded.size, decoded.size, 3)
        size = int(np.prod(shape))
        memory: Any = mmap.mmap(-1, size) if forked else context.RawArray(ctypes.c_ubyte, size)
        self._pixels = _view(memory, shape)
        self._asked: deque[int] = deque()  # slots, in the order in which they are waited for
        self._next = 0
        self._workers: list[tuple[BaseProcess, Connection]] = []
        # Its arguments are not this object, which could not end otherwise.
        Finalize(self, _end, (self._workers,), exitpriority=10)
        for _ in range(count):
            ours, theirs = context.Pipe()
            inherited = [*(other for _, other in self._workers), ours] if forked else []
            arguments = (decoded, memory, shape, theirs, inherited)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self._workers.append((process, ours))

    def parts(
        self, wanted: Iterable[list[Wanted]], on_wait: Callable[[], object]
    ) -> Iterator[Part]:
        """Decode parts, in order; the memory of each is used again for a later one.

        Args:
            on_wait: called several times a second while a part is waited for; may raise.

        Raises:
            DataError: an image cannot be decoded, or a process has died.
        """
        while self._asked:  # by an iteration that was cut short
            self._reply(on_wait)
        for part in wanted:
            if len(self._asked) == len(self._pixels):
                yield self._receive(on_wait)
            self._ask(part)
        while self._asked:
            yield self._receive(on_wait)

    def _ask(self, part: list[Wanted]) -> None:
        slot, self._next = self._next, (self._next + 1) % len(self._pixels)
        self._asked.append(slot)
        with suppress(OSError):  # it has died, as is noticed when its answer is waited for
            self._worker_of(slot)[1].send((slot, part))

    def _worker_of(self, slot: int) -> tuple[BaseProcess, Connection]:
        return self._workers[slot % len(self._workers)]

    def _receive(self, on_wait: Callable[[], object]) -> Part:
        slot = self._asked[0]
        reply = self._reply(on_wait)
        if isinstance(reply, DataError):
            raise reply
        return self._pixels[slot, : len(reply)], reply

    def _reply(self, on_wait: Callable[[], object]) -> Reply:
        process, connection = self._worker_of(self._asked[0])
        try:
            while not connection.poll(LOOK_SECONDS):
                on_wait()
            reply: Reply = connection.recv()
        except (EOFError, OSError) as error:
            process.join()
            code = process.exitcode or 0
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise DataError(f"a process that decodes images has died: {how}") from error
        self._asked.popleft()
        return reply


def _view(memory: Any, shape: tuple[int, ...]) -> np.ndarray:
    pixels: np.ndarray = np.frombuffer(memory, np.uint8).reshape(shape)
    return pixels


def _end(workers: list[tuple[BaseProcess, Connection]]) -> None:
    for process, connection in workers:
        connection.close()
        process.kill()  # it has nothing to lose
        process.join()


def _serve(
    decoded: Decoded,
    memory: Any,
    shape: tuple[int, ...],
    connection: Connection,
    inherited: list[Connection],
) -> None:
    """Decode what is asked for until the connection ends: the work of a process.

    Args:
        inherited: copies of the other ends of pipes; with them open no end would be noticed.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the one that trains
        signal.signal(number, signal.SIG_IGN)
    for other in inherited:
        other.close()
    torch.set_num_threads(1)
    pixels = _view(memory, shape)
    with suppress(EOFError, OSError):
        while True:
            slot, part = connection.recv()
            try:
                reply: Reply = decode_part(decoded, part, pixels[slot])
            except DataError as error:
                reply = error
            connection.send(reply)


def decode_part(decoded: Decoded, part: list[Wanted], pixels: np.ndarray) -> list[int]:
    """Decode images into (B, S, S, 3) uint8, and return their labels."""
    labels = []
    for target, wanted in zip(pixels, part, strict=False):
        target[:], label = decoded[wanted]
        labels.append(label)
    return labels
