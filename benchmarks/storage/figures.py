"""What a check has found."""

from __future__ import annotations

from dataclasses import dataclass


class NotHere(Exception):  # noqa: N818 - no error: the check has nothing to run on here
    """A check cannot be run on this machine; the message says why."""


@dataclass(frozen=True)
class Figure:
    """One line of `python -m benchmarks storage`.

    Attributes:
        check: what was done.
        found: what came of it, in words and figures.
        good: whether that is as it must be; None where the check could not be run here.
        seconds: how long it took.
    """

    check: str
    found: str
    good: bool | None
    seconds: float = 0.0
