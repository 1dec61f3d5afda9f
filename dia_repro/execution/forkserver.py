"""The process that workers are forked from.

It has imported torch once and done nothing else, so that workers start in milliseconds and no
thread or CUDA context is copied into them.
"""

from __future__ import annotations

import multiprocessing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["dia_repro.execution.preload"])
