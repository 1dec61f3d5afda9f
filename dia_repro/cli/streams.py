"""The standard streams of a command: closed from the start, or closed by their reader later.

Standard output holds what was asked for: without a reader the command ends. Standard error is a
log: without a reader the command goes on, to its normal exit code.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STDOUT, STDERR = 1, 2


class ReaderGoneError(Exception):
    """Standard output has no reader any more.

    Not an `OSError`: rich and click end the process with code 1 for a broken pipe, and a broken
    pipe to a worker is another thing.
    """


class _Output(io.FileIO):
    """Standard output or standard error.

    Attributes:
        terminal: whether it was one at first; a terminal that was closed is none.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self.terminal = self.isatty()

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of it, also where the stream does not block: the rest is lost otherwise."""
        left = memoryview(data).cast("B")
        size = left.nbytes
        try:
            while left:
                written = super().write(left)
                if written is None:  # it would block
                    select.select((), (self,), ())
                left = left[written or 0 :]
        except OSError as error:
            if self.fileno() == STDERR:  # a disk that is full ends no training either
                return size
            if error.errno == errno.EPIPE or (self.terminal and error.errno == errno.EIO):
                raise ReaderGoneError from error
            raise
        return size


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
    raw = _Output(number)
    return io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),  # as Python does with -u
        encoding=stream.encoding,
        errors="replace",  # a terminal without Unicode gets a "?"
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
