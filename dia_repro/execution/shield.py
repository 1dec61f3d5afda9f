"""Imported first by the process that workers are forked from: signals are not for it.

A terminal sends Ctrl-C, and its own closing, to every process of a command; Slurm sends SIGTERM.
This process ends when the one that started it does, and so do its children: that one sends them
SIGTERM, which they take again.
"""

from __future__ import annotations

import os
import signal

from dia_repro.interrupts import STOPPING, ignore

ignore()
os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
# They were held back while this process started.
signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
