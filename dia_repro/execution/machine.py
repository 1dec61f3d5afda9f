"""What this machine has to train on."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from dia_repro.errors import AbsentError, UsageError
from dia_repro.execution.placing import Places


class NoGPUError(AbsentError):
    """A GPU was asked for, or is needed, and there is none."""


@dataclass(frozen=True)
class Machine:
    """Where runs are placed.

    Attributes:
        devices: `cuda:0`, `cuda:1`, …, or `cpu` alone.
        cores: processors this process may use.
        memory: bytes of each GPU, by name.
    """

    devices: tuple[str, ...]
    cores: int
    memory: tuple[tuple[str, int], ...] = ()

    @property
    def device(self) -> torch.device:
        """The first of them."""
        return torch.device(self.devices[0])

    @property
    def has_gpu(self) -> bool:
        """Whether runs go to a GPU."""
        return self.devices[0] != "cpu"

    def threads(self, jobs: int) -> int:
        """Of each of so many runs at a time."""
        return max(1, self.cores // jobs)

    def places(
        self,
        runs: int,
        jobs: int | None = None,
        per_gpu: int | None = None,
        gpus_per_run: int | None = None,
    ) -> Places:
        """Where so many runs go: a GPU each, or on a CPU a core each, unless told.

        Args:
            jobs: runs at a time in all.
            per_gpu: runs at a time on each GPU, as far as its memory holds them.
            gpus_per_run: GPUs that each run has to itself, by the name of the first.

        Raises:
            UsageError: more at a time than the GPUs have room for.
            NoGPUError: runs for each GPU, or GPUs for each run, and there are none or too few.
        """
        if not self.has_gpu:
            if per_gpu:
                raise NoGPUError("there is no GPU here to share: leave --per-gpu out")
            if gpus_per_run:
                raise NoGPUError("there is no GPU here: leave --gpus-per-run out")
            return Places.on_cpu(max(1, min(jobs or self.cores, runs)))
        gpus = len(self.devices)
        if gpus_per_run:
            return self._places_of_several(gpus_per_run, runs, jobs)
        if jobs and jobs > gpus * (per_gpu or 1):
            raise UsageError(
                f"{jobs} runs at a time need --per-gpu {-(-jobs // gpus)}: {self._gpus_here()}"
            )
        return Places(self.devices, per_gpu or 1, dict(self.memory), min(jobs or runs, runs))

    def _gpus_here(self) -> str:
        gpus = len(self.devices)
        return f"there {'is 1 GPU' if gpus == 1 else f'are {gpus} GPUs'} here"

    def _places_of_several(self, each: int, runs: int, jobs: int | None) -> Places:
        here = self._gpus_here()
        room = len(self.devices) // each
        if not room:
            raise NoGPUError(f"{each} GPUs for each run: {here}")
        if jobs and jobs > room:
            raise UsageError(f"{jobs} runs at a time on {each} GPUs each: {here}")
        return Places(self.devices[: room * each : each], 1, at_once=min(jobs or runs, runs))


def find_machine(device: str | None = None) -> Machine:
    """The GPUs of this machine, or its CPU where there is none.

    Args:
        device: `cpu` or `cuda` to insist on one.

    Raises:
        NoGPUError: `cuda` was asked for and is not there.
    """
    gpus = torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0
    if device == "cuda" and not gpus:
        raise NoGPUError("no GPU that torch can use was found: see 'dia-repro doctor'")
    devices = tuple(f"cuda:{number}" for number in range(gpus)) or ("cpu",)
    memory = [(f"cuda:{n}", torch.cuda.get_device_properties(n).total_memory) for n in range(gpus)]
    return Machine(devices, cores(), tuple(memory))


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
