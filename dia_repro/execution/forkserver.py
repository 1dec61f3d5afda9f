"""The process that workers are forked from.

It has imported torch once and done nothing else, so that workers start in milliseconds and no
thread or CUDA context is copied into them.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver

from dia_repro.training.environment import TRAINING, environment

CONTEXT = multiprocessing.get_context("forkserver")
# A worker imports what the program that started it is made of; here that is done once.
PRELOADED = ["dia_repro.execution.preload", "dia_repro.cli.main"]
CONTEXT.set_forkserver_preload(PRELOADED)


def start() -> None:
    """Start it, if it is not running, without the working folder among its import paths.

    Python puts that folder first: a `random.py` in it, or another checkout of this package,
    would be what workers train with.
    """
    # A worker that is killed leaves semaphores, which are removed with a warning that helps nobody.
    quiet = {"PYTHONWARNINGS": "ignore:resource_tracker:UserWarning"}
    with environment({"PYTHONSAFEPATH": "1", **quiet, **TRAINING}):
        forkserver.ensure_running()
