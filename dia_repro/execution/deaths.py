"""What an exit code tells of a process that ended without a word."""

from __future__ import annotations

import signal


def cause_of_death(exit_code: int | None) -> str:
    """For people."""
    if exit_code is not None and exit_code < 0:
        known = {number.value for number in signal.Signals}
        name = signal.Signals(-exit_code).name if -exit_code in known else f"signal {-exit_code}"
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"the training process was killed by {name}{hint}"
    return f"the training process ended with exit code {exit_code}"
