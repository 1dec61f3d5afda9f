"""Standard streams of a command that are closed from the start, or by their reader later.

Standard output has the results: without a reader the command ends. Standard error is a log: without
a reader the command goes on, to its normal exit code. A reader that pauses, as a terminal after
Ctrl-S, delays a command, but not its end.
"""

from __future__ import annotations

import errno
import io
import math
import os
import re
import select
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dia_repro import interrupts

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STDOUT = 1
POLL_SECONDS = 0.2
STOPPING_SECONDS = 2.0  # longest wait for a reader once the command is asked to stop
# A terminal that has any room has room for this: it counts a line's end apart.
LITTLE = re.compile(rb"[^\x00-\x1f]{1,128}|.", re.DOTALL)


class ReaderGoneError(Exception):
    """Standard output has no reader any more.

    Not an `OSError`: rich and click end the process with code 1 for a broken pipe, and a broken
    pipe to a worker is another thing.
    """


class _Stream(io.FileIO):
    """Standard stream that is written in pieces, each as large as it takes without blocking.

    Other programs may share the stream, so it is not made non-blocking.

    Attributes:
        terminal: whether it was a terminal at first; a closed terminal is none.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self.terminal = self.isatty()

    def write_all(self, data: ReadableBuffer) -> None:
        """Write, waiting for the reader: `STOPPING_SECONDS` once the command is asked to stop.

        Raises:
            TimeoutError: the reader does not read on.
        """
        poll = select.poll()  # `select.select` takes no number from 1024 on
        poll.register(self.fileno(), select.POLLOUT)
        begun, rest = time.monotonic(), memoryview(data).cast("B")
        while rest:
            little = LITTLE.match(rest) if self.terminal else None
            piece = little[0] if little else rest[: select.PIPE_BUF]
            if poll.poll(1000 * POLL_SECONDS):
                try:
                    rest = rest[os.write(self.fileno(), piece) :]
                    continue
                except BlockingIOError:  # another program has taken the room
                    pass
            if interrupts.patience_ends(begun, math.inf, STOPPING_SECONDS):
                raise TimeoutError


class _Output(_Stream):
    """Standard output."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            self.write_all(data)
        except OSError as error:
            gone = isinstance(error, TimeoutError) or error.errno == errno.EPIPE
            if gone or (self.terminal and error.errno == errno.EIO):
                raise ReaderGoneError from error
            raise
        return memoryview(data).nbytes


class _Log(_Stream):
    """Standard error: no error of it, such as a full disk, ends a training."""

    given_up = False

    def write(self, data: ReadableBuffer, /) -> int:
        if not self.given_up:
            try:
                self.write_all(data)
            except OSError as error:
                self.given_up = isinstance(error, TimeoutError)
        return memoryview(data).nbytes


def prepare_streams() -> None:
    """Open the null device in place of closed streams, and wrap the output streams.

    Otherwise a file that is opened later could get a standard stream's number, and a library would
    print into it.
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
    """Redirect standard output to the null device: buffered text is no error at exit."""
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
