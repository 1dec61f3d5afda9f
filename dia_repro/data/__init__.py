"""Data sets: where their images come from, and how batches are made of them.

Importing this registers every source in `sources`, and loads no torch.
"""

from __future__ import annotations

import dia_repro.data.sources  # noqa: F401 - registers them
from dia_repro.data.registry import (
    DataChoice,
    DataError,
    Source,
    check_data,
    fetch_data,
    known_data,
    known_sources,
    load,
    own_images,
    register,
    source_of,
)

__all__ = [
    "DataChoice",
    "DataError",
    "Source",
    "check_data",
    "fetch_data",
    "known_data",
    "known_sources",
    "load",
    "own_images",
    "register",
    "source_of",
]
