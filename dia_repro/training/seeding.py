"""Every random draw comes from (seed, purpose, epoch).

So a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(seed: int, purpose: str, epoch: int = 0) -> int:
    """Return a 63-bit seed for one purpose, such as `order` or `dropout`, in one epoch."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, purpose: str, epoch: int = 0) -> torch.Generator:
    """Return a CPU generator for a purpose, with the same draws for every device."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, epoch))


@contextmanager
def global_seed(seed: int, purpose: str) -> Iterator[None]:
    """Seed torch's global generator inside the block, for code that takes no generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, purpose))
        yield


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the states of torch's global generators, of the CPU and of a GPU."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random_state(states: dict[str, torch.Tensor], device: torch.device) -> None:
    """Restore what `random_state` returned, on this or another device."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
