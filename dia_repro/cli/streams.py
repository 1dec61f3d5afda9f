"""The standard streams of a command: closed from the start, or closed by their reader later.

Standard output holds what was asked for: without a reader the command ends. Standard error is a
log: without a reader the command goes on, to its normal exit code. A reader that does not read on,
as a terminal after Ctrl-S, holds up a command, but not its end.
"""

from __future__ import annotations

import errno
import io
import math
import os
import re
import select
import socket
import stat
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dia_repro import interrupts

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STDOUT, STDERR = 1, 2
POLL_SECONDS = 0.2
# A reader may hold up a command that is asked to stop for so long.
STOPPING_SECONDS = 2.0
# A terminal or pipe that has any room has room for this: a terminal counts a line's end apart.
LITTLE = re.compile(rb"[^\x00-\x1f]{1,128}|.", re.DOTALL)


class ReaderGoneError(Exception):
    """Standard output has no reader any more.

    Not an `OSError`: rich and click end the process with code 1 for a broken pipe, and a broken
    pipe to a worker is another thing.
    """


class _Output(io.FileIO):
    """Standard output; written whole, also where it does not block.

    Attributes:
        terminal: whether it was one at first; a terminal that was closed is none.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self._write, self.terminal = _without_blocking(number), self.isatty()

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            _write_all(self._write, self.fileno(), data)
        except OSError as error:
            self._write = partial(os.write, self.fileno())  # as `discard_output` leaves it
            gone = isinstance(error, TimeoutError) or error.errno == errno.EPIPE
            if gone or (self.terminal and error.errno == errno.EIO):
                raise ReaderGoneError from error
            raise
        return memoryview(data).nbytes


class _Log(io.FileIO):
    """Standard error: nothing that is wrong with it ends a training, a full disk neither."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self._write, self._given_up = _without_blocking(number), False

    def write(self, data: ReadableBuffer, /) -> int:
        if not self._given_up:
            try:
                _write_all(self._write, self.fileno(), data)
            except OSError as error:
                self._given_up = isinstance(error, TimeoutError)
        return memoryview(data).nbytes


def _write_all(write: Callable[[memoryview], int], number: int, data: ReadableBuffer) -> None:
    """Write, waiting for the reader, once the command is asked to stop for `STOPPING_SECONDS`.

    Args:
        write: as `_without_blocking` gives it.
        number: of the stream.

    Raises:
        TimeoutError: the reader does not read on.
    """
    begun, rest = time.monotonic(), memoryview(data).cast("B")
    while rest:
        try:
            rest = rest[write(rest) :]
        except BlockingIOError:
            if interrupts.patience_ends(begun, math.inf, STOPPING_SECONDS):
                raise TimeoutError from None
            _has_room(number, POLL_SECONDS)


def _without_blocking(number: int) -> Callable[[memoryview], int]:
    """Return what writes to a stream and raises BlockingIOError where it has no room.

    Other programs have the same stream: that it blocks them is not changed.
    """
    mode = os.fstat(number).st_mode
    if stat.S_ISSOCK(mode):
        again = socket.socket(fileno=os.dup(number))
        return lambda data: again.send(data, socket.MSG_DONTWAIT)
    if not stat.S_ISFIFO(mode) and not os.isatty(number):
        return partial(os.write, number)
    try:
        again_open = os.open(f"/proc/self/fd/{number}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:  # not Linux, or another user's
        return partial(_write_little, number)
    return partial(os.write, again_open)


def _write_little(number: int, data: memoryview) -> int:
    if not _has_room(number, 0):
        raise BlockingIOError
    little = LITTLE.match(data)
    return os.write(number, little[0]) if little else 0


def _has_room(number: int, seconds: float) -> bool:
    """Return whether a stream can be written to, or fails at once, within so many seconds."""
    poll = select.poll()  # `select.select` takes no number from 1024 on
    poll.register(number, select.POLLOUT)
    return bool(poll.poll(1000 * seconds))


def prepare_streams() -> None:
    """Open the null device in place of closed streams; make lost readers no error of the command.

    A file that is opened later never gets a standard stream's number: what a library prints would
    be written into it.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - until the end
            os.set_inheritable(nowhere.fileno(), True)
            setattr(sys, name, nowhere)
        elif number and isinstance(stream, io.TextIOWrapper) and stream.fileno() == number:
            setattr(sys, name, _rewrapped(stream, number))


def discard_output() -> None:
    """Give standard output the null device, so that what is still buffered is no error at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, STDOUT)
    os.close(nowhere)


def _rewrapped(stream: io.TextIOWrapper, number: int) -> io.TextIOWrapper:
    stream.flush()
    raw = _Output(number) if number == STDOUT else _Log(number)
    return io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),  # as Python does with -u
        encoding=stream.encoding,
        errors="replace",  # a terminal without Unicode gets a "?"
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
