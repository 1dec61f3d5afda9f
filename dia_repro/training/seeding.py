"""Every random draw comes from (seed, purpose, epoch).

So a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(seed: int, purpose: str, epoch: int = 0) -> int:
    """A 63-bit seed for one purpose (`order`, `variation`, `weights`, `dropout`) in one epoch."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, purpose: str, epoch: int = 0) -> torch.Generator:
    """A CPU generator for that purpose: the same draws whatever the device."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, epoch))


@contextmanager
def global_seed(seed: int, purpose: str) -> Iterator[None]:
    """Torch's global random state for code that takes no generator; restored afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, purpose))
        yield
