"""Processes that draw pictures while this one does something else.

They need no threads, queues or semaphores, which a machine may refuse: a process reads its tasks
from a temporary file and writes the pictures' files to another. What no process has drawn, this
one draws.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from dia_repro import interrupts
from dia_repro.execution.dialogue import Dialogue
from dia_repro.processors import cores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

V = TypeVar("V")
Files = dict[str, bytes]  # of one picture, by kind
Task = tuple[Callable[[Any], "Figure"], Any]

MOST_PROCESSES = 4  # each imports matplotlib, and takes 150 MB
LOOK_SECONDS = 0.2  # between two looks for signals, while another process draws
# What a process runs: it finds this package where this process has found it.
PROGRAM = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from dia_repro.reports.drawing import draw_all; draw_all()"
)


class Pictures:
    """Pictures to be drawn; `begin` has other processes draw them, `write` waits for these."""

    def __init__(self, stack: ExitStack, dialogue: Dialogue) -> None:
        self._stack = stack  # ends the processes
        self._dialogue = dialogue
        self._tasks: dict[Path, Task] = {}
        self._shares: list[tuple[Sequence[Path], subprocess.Popen[bytes], IO[bytes]]] = []

    def draw(self, path: Path, how: Callable[[V], Figure], value: V) -> None:
        """Add a value's picture to those that are drawn.

        Args:
            path: path of its files, without a suffix.
        """
        self._tasks[path] = (how, value)

    def begin(self) -> None:
        """Start to draw all pictures, in as many processes as there are cores for."""
        paths = tuple(self._tasks)
        count = min(cores(), MOST_PROCESSES, len(paths))
        for share in (paths[first::count] for first in range(count)):
            with suppress(OSError):  # no more processes, or no room: `write` draws them
                drawn = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
                process = _start([self._tasks[path] for path in share], drawn)
                self._stack.callback(process.wait)
                self._stack.callback(process.kill)  # it has nothing to lose
                self._shares.append((share, process, drawn))

    def write(self) -> list[Path]:
        """Write every kind of file of each picture, and say so; return their PNG files."""
        from dia_repro.rendering.images import draw

        files: dict[Path, Files] = {}
        for share, process, drawn in self._shares:
            files |= zip(share, _drawn(process, drawn), strict=False)
        return [
            write_picture(path, files.get(path) or draw(*task), self._dialogue)
            for path, task in self._tasks.items()
        ]


@contextmanager
def drawing(dialogue: Dialogue) -> Iterator[Pictures]:
    """Yield pictures whose processes end with the block."""
    with ExitStack() as stack:
        yield Pictures(stack, dialogue)


def _start(tasks: Sequence[Task], drawn: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a process that draws.

    Raises:
        OSError: it cannot be started.
    """
    with tempfile.TemporaryFile() as asked:
        for part in (sys.path, os.getpid(), tasks):
            pickle.dump(part, asked)
        asked.seek(0)
        return subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM],  # -P: nothing is imported from this folder
            stdin=asked,
            stdout=drawn,
            stderr=subprocess.DEVNULL,
        )


def _drawn(process: subprocess.Popen[bytes], drawn: IO[bytes]) -> list[Files]:
    """Wait for a process; return the files of each of its pictures, or none where it failed."""
    while process.poll() is None:
        interrupts.check()
        process.send_signal(signal.SIGCONT)  # one that is stopped would never end
        with suppress(subprocess.TimeoutExpired):
            process.wait(LOOK_SECONDS)
    drawn.seek(0)
    try:
        files = [] if process.returncode else pickle.load(drawn)
    except Exception:  # whatever `pickle` makes of what a .pth file has printed
        return []
    return files if isinstance(files, list) else []


def draw_all() -> None:
    """Draw what stdin asks for and write it to stdout; what a process of `Pictures` does."""
    drawn = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # plugins may print when they are imported
    parent = pickle.load(sys.stdin.buffer)
    from dia_repro.rendering.images import draw

    tasks: list[Task] = pickle.load(sys.stdin.buffer)
    files = []
    for task in tasks:
        if os.getppid() != parent:
            return  # it was killed before it could take this process along
        files.append(draw(*task))
    with drawn:
        pickle.dump(files, drawn)


def write_picture(path: Path, files: Files, dialogue: Dialogue) -> Path:
    """Write a picture's files and say so; return its PNG file.

    Args:
        path: path of the files, without a suffix.
    """
    from dia_repro.rendering.files import write_all

    # The SVG first: it has the mark that tells whose the others are.
    kinds = sorted(files, key=lambda kind: kind != "svg")
    write_all({path.with_name(f"{path.name}.{kind}"): files[kind] for kind in kinds})
    dialogue.notice(f"Written: {path}.{{{','.join(files)}}}")
    return path.with_name(f"{path.name}.png")
