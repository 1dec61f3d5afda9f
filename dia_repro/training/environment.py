"""What a training process must find in its environment when it loads torch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

# How long GNU's OpenMP threads look for work before they sleep: some milliseconds, since a small
# network's operations follow each other at once, and being woken takes longer than their part.
TRAINING = {"GOMP_SPINCOUNT": "3000000"}


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables for processes that are started inside the block; what the user has set stays."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
