"""Imported first by the process that workers are forked from: signals are not for it.

A terminal sends Ctrl-C, and its own closing, to every process of a command; Slurm sends SIGTERM.
Workers hear of them by their own handlers. This process ends when the one that started it does.
"""

from __future__ import annotations

import signal

from dia_repro.interrupts import STOPPING, ignore

ignore()
# They were held back while this process started.
signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
