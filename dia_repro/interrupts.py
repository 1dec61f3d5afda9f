"""Signals that ask a command to stop.

An exception that a signal raises is lost where C code imports a module or the garbage collector
runs: each signal is counted first, so that `check` finds it later.
"""

from __future__ import annotations

import signal
import sys
import time

# Ctrl-C, `kill`, and a terminal that was closed.
STOPPING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
STOPPING_SECONDS = 10.0  # longest wait for anything once the process is asked to stop
_count = 0
_asked: float | None = None


class Interrupted(BaseException):
    """A signal asks the command to stop.

    Not a KeyboardInterrupt: typer ends silently on that, and Python kills itself at its end if
    one passed through `exec`, as dataclasses use it.
    """


def install() -> None:
    """Count these signals and raise `Interrupted`; ignored signals stay ignored.

    But for SIGCHLD: where a launcher had it ignored, every program that is called, as git is, would
    seem to succeed.
    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _note)


def _note(_number: int, _frame: object) -> None:
    global _count  # noqa: PLW0603 - a process has one set of handlers
    _count += 1
    note_wish()
    raise Interrupted


def note_wish(asked: bool = True) -> None:
    """Note that this process is asked to stop, or that it is not any more."""
    global _asked  # noqa: PLW0603
    _asked = (_asked or time.monotonic()) if asked else None


def patience_ends(begun: float, seconds: float, stopping: float | None = None) -> bool:
    """Return whether a wait has taken too long.

    Args:
        begun: start of the wait, by `time.monotonic`.
        seconds: longest wait.
        stopping: longest wait once the process is asked to stop; by default `STOPPING_SECONDS`.
    """
    stopping = STOPPING_SECONDS if stopping is None else stopping
    now = time.monotonic()
    return now - begun > seconds or (_asked is not None and now - max(_asked, begun) > stopping)


def check() -> None:
    """Raise `Interrupted` if a signal came whose exception was lost and is not being handled."""
    if _count and not isinstance(sys.exc_info()[1], Interrupted):
        raise Interrupted


def count() -> int:
    """Return the number of signals since `install`."""
    return _count


def ignore() -> None:
    """Ignore further signals: the command is ending."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
