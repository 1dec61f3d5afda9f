"""Processes that draw pictures while this one does something else.

There are no threads, queues or semaphores between them, which may not be had: a process reads all
that it is to draw from one temporary file and writes all that it has drawn to another. What no
process has drawn, for whatever reason, this one draws.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from dia_repro import interrupts
from dia_repro.cli.output import notice
from dia_repro.processors import cores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

V = TypeVar("V")
Files = dict[str, bytes]  # of one picture, by kind
Task = tuple[Callable[[Any], "Figure"], Any]

MOST_PROCESSES = 4  # each imports matplotlib, and takes 150 MB
LOOK_SECONDS = 0.2  # how often the process that waits for another looks for signals
# What a process runs: it finds this package where this process has found it.
PROGRAM = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from dia_repro.cli.drawing import draw_all; draw_all()"
)
PR_SET_PDEATHSIG = 1  # from linux/prctl.h


class Pictures:
    """Pictures to be drawn; `begin` has other processes draw them, `write` waits for these."""

    def __init__(self) -> None:
        self._tasks: dict[Path, Task] = {}
        self._processes: dict[tuple[Path, ...], _Process] = {}

    def draw(self, path: Path, how: Callable[[V], Figure], value: V) -> None:
        """Add a value's picture to those that are drawn.

        Args:
            path: of its files, without a suffix.
        """
        self._tasks[path] = (how, value)

    def begin(self) -> None:
        """Start to draw all pictures, in as many processes as there are cores for."""
        paths = tuple(self._tasks)
        count = min(cores(), MOST_PROCESSES, len(paths))
        for shared in (paths[first::count] for first in range(count)):
            with suppress(OSError):  # no more processes, or no room: `write` draws them
                self._processes[shared] = _Process([self._tasks[path] for path in shared])

    def write(self) -> list[Path]:
        """Write every kind of file of each picture, and say so; return their PNG files."""
        from dia_repro.rendering.images import draw

        drawn: dict[Path, Files] = {}
        for paths, process in self._processes.items():
            drawn |= zip(paths, process.wait(), strict=False)
        return [
            write_picture(path, drawn.get(path) or draw(*task))
            for path, task in self._tasks.items()
        ]

    def end(self) -> None:
        """Leave no process behind."""
        for process in self._processes.values():
            process.end()


class _Process:
    """A process that draws some pictures.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._drawn: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        with tempfile.TemporaryFile() as asked:
            for part in (sys.path, os.getpid(), tasks):
                pickle.dump(part, asked)
            asked.seek(0)
            # -P: nothing is imported from the working folder.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", PROGRAM],
                stdin=asked,
                stdout=self._drawn,
                stderr=subprocess.DEVNULL,
            )

    def wait(self) -> list[Files]:
        """Return the files of each of its pictures; of none where it has failed or was killed."""
        while True:
            try:
                code = self._process.wait(LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                interrupts.check()
                self._process.send_signal(signal.SIGCONT)  # one that is stopped would never end
            else:
                break
        self._drawn.seek(0)
        try:
            drawn = [] if code else pickle.load(self._drawn)
        except Exception:  # whatever `pickle` makes of what a .pth file has printed
            return []
        return drawn if isinstance(drawn, list) else []

    def end(self) -> None:
        """Kill it where it still draws: it has nothing to lose."""
        self._process.kill()
        self._process.wait()
        self._drawn.close()


@contextmanager
def drawing() -> Iterator[Pictures]:
    """Pictures whose processes end with the block."""
    pictures = Pictures()
    try:
        yield pictures
    finally:
        pictures.end()


def draw_all() -> None:
    """Draw what stdin asks for and write it to stdout; what a process of `Pictures` does."""
    drawn = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # plugins may print when they are imported
    if sys.platform == "linux":  # elsewhere it ends when its pictures are drawn
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != pickle.load(sys.stdin.buffer):
        return  # the process that waits was killed before it could take this one along
    from dia_repro.rendering.images import draw

    tasks: list[Task] = pickle.load(sys.stdin.buffer)
    with drawn:
        pickle.dump([draw(*task) for task in tasks], drawn)


def write_picture(path: Path, files: Files) -> Path:
    """Write a picture's files and say so; return its PNG file.

    Args:
        path: of the files, without a suffix.
    """
    from dia_repro.rendering.files import write_bytes

    for kind, content in files.items():
        write_bytes(path.with_name(f"{path.name}.{kind}"), content)
    notice(f"Written: {path}.{{{','.join(files)}}}")
    return path.with_name(f"{path.name}.png")
