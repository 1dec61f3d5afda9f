"""Imported once by the process that workers are forked from; what is slow to load is done here.

It must start no thread and touch no GPU: neither survives a fork.
"""

from __future__ import annotations

from contextlib import suppress

from numba.core.registry import cpu_target

import dia_repro.execution.attempt
import dia_repro.models.fast.kernels  # noqa: F401
from dia_repro.training.provenance import code_at_start, files_at_start

# What numba needs to load a compiled function; each worker would import it again.
cpu_target.typing_context.refresh()
cpu_target.target_context.refresh()

# Workers compute with the modules that are imported here.
code_at_start()
files_at_start()
with suppress(ImportError):  # of the extra postgres; half of what a short run took of a processor
    import psycopg  # noqa: F401
