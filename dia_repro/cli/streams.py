"""The standard streams of a command: closed from the start, or closed by their reader later.

Standard output holds what was asked for: without a reader the command ends. Standard error is a
log: without a reader the command goes on, to its normal exit code. A log that nobody reads on, as
of a terminal after Ctrl-S, holds up a command, but not its end.
"""

from __future__ import annotations

import errno
import io
import math
import os
import select
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dia_repro import interrupts

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STDOUT, STDERR = 1, 2
POLL_SECONDS = 0.2
# A log may hold up a command that is asked to stop for so long.
STOPPING_SECONDS = 2.0


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
        self.terminal = self.isatty()

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            _write_all(self.fileno(), data, math.inf)
        except OSError as error:
            if error.errno == errno.EPIPE or (self.terminal and error.errno == errno.EIO):
                raise ReaderGoneError from error
            raise
        return memoryview(data).nbytes


class _Log(io.FileIO):
    """Standard error: nothing that is wrong with it ends a training, a full disk neither."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self._target, self._given_up = _without_blocking(number), False

    def write(self, data: ReadableBuffer, /) -> int:
        if not self._given_up:
            try:
                _write_all(self._target, data, STOPPING_SECONDS)
            except OSError as error:
                self._given_up = isinstance(error, TimeoutError)
        return memoryview(data).nbytes


def _write_all(target: int, data: ReadableBuffer, stopping: float) -> None:
    """Write, waiting for the reader where the stream does not block.

    Args:
        stopping: seconds that this may take once the command is asked to stop.

    Raises:
        TimeoutError: the reader does not read on.
    """
    begun, rest = time.monotonic(), memoryview(data).cast("B")
    while rest:
        try:
            rest = rest[os.write(target, rest) :]
        except BlockingIOError:
            if interrupts.patience_ends(begun, math.inf, stopping):
                raise TimeoutError from None
            select.select([], [target], [], POLL_SECONDS)


def _without_blocking(number: int) -> int:
    """Return the same terminal or pipe opened anew, so that other programs' stays as it is."""
    if stat.S_ISFIFO(os.fstat(number).st_mode) or os.isatty(number):
        try:
            return os.open(f"/proc/self/fd/{number}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:  # not Linux, or another user's: it blocks as ever
            return number
    return number


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
