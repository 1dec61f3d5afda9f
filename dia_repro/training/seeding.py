"""Generators of random draws, each seeded by (seed, purpose, epoch).

So a resumed run sees what an uninterrupted one would have seen. This package draws from torch;
NumPy's and Python's global generators are seeded for attention kinds of plugins.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch

CPU = torch.device("cpu")


def derive_seed(seed: int, purpose: str, epoch: int = 0) -> int:
    """Return a 63-bit seed for one purpose, such as `order` or `dropout`, in one epoch."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, purpose: str, epoch: int = 0) -> torch.Generator:
    """Return a CPU generator for a purpose, with the same draws for every device."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, epoch))


def seed_globally(seed: int, purpose: str, epoch: int = 0) -> None:
    """Seed the global generators of torch, NumPy and Python, for code that takes no generator."""
    derived = derive_seed(seed, purpose, epoch)
    torch.manual_seed(derived)
    np.random.seed(derived % 2**32)
    random.seed(derived)


@contextmanager
def global_seed(seed: int, purpose: str) -> Iterator[None]:
    """Seed the global generators inside the block, and restore their states after it."""
    states = random_state(CPU)
    try:
        seed_globally(seed, purpose)
        yield
    finally:
        restore_random_state(states, CPU)


def random_state(device: torch.device) -> dict[str, Any]:
    """Return the states of the global generators, those of a GPU included.

    They are plain values and tensors: NumPy's arrays are not loaded from a checkpoint.
    """
    name, keys, *rest = cast("Any", np.random.get_state())
    states = {
        "cpu": torch.get_rng_state(),
        "numpy": (name, keys.tolist(), *rest),
        "python": random.getstate(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def renew_generator(device: torch.device) -> None:
    """Give a GPU's global generator a new state, which the caller seeds.

    A capture that failed leaves the old one capturing, and torch refuses to draw from it.
    """
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        fresh = torch.Generator(device)
        torch.cuda.default_generators[index].graphsafe_set_state(fresh.graphsafe_get_state())


def restore_random_state(states: dict[str, Any], device: torch.device) -> None:
    """Restore what `random_state` returned, on this or another device."""
    if "numpy" in states:  # else of an earlier version's checkpoint
        np.random.set_state(states["numpy"])
        random.setstate(states["python"])
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
