"""Signals that ask a command to stop, noted from its first moment on.

An exception that a signal raises gets lost where code of C imports a module or the garbage
collector runs. Here each signal is counted first, so that it can be asked for later.
"""

from __future__ import annotations

import signal

# Ctrl-C, `kill`, and a terminal that was closed.
STOPPING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
_count = 0


class Interrupted(BaseException):
    """A signal asks the command to stop.

    Not a KeyboardInterrupt: typer ends silently on that, and Python kills itself at its end if
    one passed through `exec`, as dataclasses use it.
    """


def install() -> None:
    """Have these signals counted, and raise `Interrupted`; those that are ignored stay so."""
    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _note)


def _note(_number: int, _frame: object) -> None:
    global _count  # noqa: PLW0603 - a process has one set of handlers
    _count += 1
    raise Interrupted


def count() -> int:
    """Return how many have come since `install`."""
    return _count


def ignore() -> None:
    """Ignore further ones: the command is ending."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
