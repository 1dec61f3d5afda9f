"""What this machine has to train on."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from dia_repro.errors import AbsentError


class NoGPUError(AbsentError):
    """A GPU was asked for, or is needed, and there is none."""


@dataclass(frozen=True)
class Machine:
    """Where runs are placed.

    Attributes:
        devices: `cuda:0`, `cuda:1`, …, or `cpu` alone.
        cores: processors this process may use.
    """

    devices: tuple[str, ...]
    cores: int

    @property
    def device(self) -> torch.device:
        """The first of them."""
        return torch.device(self.devices[0])

    @property
    def has_gpu(self) -> bool:
        """Whether runs go to a GPU."""
        return self.devices[0] != "cpu"

    def jobs_for(self, runs: int, jobs: int | None) -> int:
        """Worker processes at a time: a GPU each, or on a CPU a core each, unless told."""
        most = jobs or (len(self.devices) if self.has_gpu else self.cores)
        return max(1, min(most, runs))


def find_machine(device: str | None = None) -> Machine:
    """The GPUs of this machine, or its CPU where there is none.

    Args:
        device: `cpu` or `cuda` to insist on one.

    Raises:
        NoGPUError: `cuda` was asked for and is not there.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpus = torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0
    if device == "cuda" and not gpus:
        raise NoGPUError("no GPU that torch can use was found: see 'dia-repro doctor'")
    devices = tuple(f"cuda:{number}" for number in range(gpus)) or ("cpu",)
    return Machine(devices, cores or 1)
