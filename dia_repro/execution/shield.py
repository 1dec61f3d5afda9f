"""Imported first by the process that workers are forked from: signals are not for it.

A terminal sends Ctrl-C, and its own closing, to every process of a command; Slurm sends SIGTERM.
This process ends when the one that started it does. So do its children: that one sends them
SIGTERM, which is held back here until they are there to take it. If it were ignored, one that is
sent to a child at once would be lost.
"""

from __future__ import annotations

import os
import signal

from dia_repro.interrupts import STOPPING

TERM = {signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, TERM)
os.register_at_fork(after_in_child=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, TERM))
for number in set(STOPPING) - TERM:
    signal.signal(number, signal.SIG_IGN)
# They were held back while this process started.
signal.pthread_sigmask(signal.SIG_UNBLOCK, set(STOPPING) - TERM)
