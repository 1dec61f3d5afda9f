"""What the process that workers are forked from imports, once for all of them.

Signals are not for that process. A terminal sends Ctrl-C, and its own closing, to every process of
a command; Slurm sends SIGTERM. It ends when the process that started it does, and so do its
children: that process sends them SIGTERM, which is held back here until they are there to take it.
If it were ignored, one that is sent to a child at once would be lost.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from dia_repro.interrupts import STOPPING

TERM = {signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, TERM)
os.register_at_fork(after_in_child=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, TERM))
for number in set(STOPPING) - TERM:
    signal.signal(number, signal.SIG_IGN)
# They were held back while this process started.
signal.pthread_sigmask(signal.SIG_UNBLOCK, set(STOPPING) - TERM)


def load() -> None:
    """Import what takes workers long; starts no thread and touches no GPU: neither is forked."""
    from numba.core.registry import cpu_target

    import dia_repro.execution.attempt
    import dia_repro.models.fast.kernels  # noqa: F401
    from dia_repro.training.provenance import code_at_start

    # What numba needs to load a compiled function; each worker would import it anew.
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()
    code_at_start()  # workers compute with the modules that are imported here
    with suppress(ImportError):  # of the extra postgres; half of a short run's processor time
        import psycopg  # noqa: F401


load()
