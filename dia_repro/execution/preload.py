"""Imported once by the process that workers are forked from; what is slow to load is done here.

It must start no thread and touch no GPU: neither survives a fork.
"""

from __future__ import annotations

from contextlib import suppress

import dia_repro.execution.attempt
import dia_repro.models.fast.kernels  # noqa: F401

with suppress(ImportError):  # of the extra postgres; half of what a short run took of a processor
    import psycopg  # noqa: F401
