"""The process that workers are forked from.

It has imported torch once and done nothing else, so that workers start in milliseconds and no
thread or CUDA context is copied into them.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker

from dia_repro.interrupts import STOPPING
from dia_repro.training.environment import TRAINING, environment

CONTEXT = multiprocessing.get_context("forkserver")
# A worker imports what the program that started it is made of; here that is done once.
PRELOADED = [
    "dia_repro.execution.shield",
    "dia_repro.execution.preload",
    "dia_repro.cli.main",
]
CONTEXT.set_forkserver_preload(PRELOADED)


def start() -> None:
    """Start it, if it is not running, without the working folder among its import paths.

    Python puts that folder first: a `random.py` in it, or another checkout of this package,
    would be what workers train with.
    """
    # A worker that is killed leaves semaphores, which are removed with a warning that helps nobody.
    quiet = {"PYTHONWARNINGS": "ignore:resource_tracker:UserWarning"}
    with environment({"PYTHONSAFEPATH": "1", **quiet, **TRAINING}):
        resource_tracker.ensure_running()  # which would end the holding back
        with _signals_held_back():
            forkserver.ensure_running()


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Start a process inside the block that no signal ends before it can handle them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
