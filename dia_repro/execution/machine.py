"""Machine: the devices to train on, and the slots in which runs are placed on them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from dia_repro.errors import AbsentError, UsageError
from dia_repro.processors import cores

CPU = "cpu"


class Slots:
    """Devices, each with room for some runs at a time.

    Args:
        devices: names, e.g. `cuda:0`; each once.
        each: runs at a time on each.
        memory: bytes of those devices whose memory is limited.
        at_once: runs at a time in all; None for as many as there is room for.
    """

    def __init__(
        self,
        devices: Iterable[str],
        each: int,
        memory: Mapping[str, int] | None = None,
        at_once: int | None = None,
    ) -> None:
        self._taken: dict[str, list[int]] = {name: [] for name in devices}  # bytes of each run
        self._each, self._memory = each, memory or {}
        room = each * len(self._taken)
        self.total = room if at_once is None else min(at_once, room)

    @classmethod
    def on_cpu(cls, runs: int) -> Slots:
        """Return slots for a number of runs on the processor."""
        return cls([CPU], runs)

    @property
    def free(self) -> int:
        """Return how many more runs could be placed if all were small."""
        return self.total - sum(map(len, self._taken.values()))

    def take(self, need: int) -> str | None:
        """Take the device with the fewest runs that has room for one of `need` bytes, if any."""
        open_ones = [name for name in self._taken if self._has_room(name, need)]
        if not open_ones or self.free < 1:
            return None
        chosen = min(open_ones, key=lambda name: len(self._taken[name]))
        self._taken[chosen].append(need)
        return chosen

    def give_back(self, name: str, need: int) -> None:
        """Give back the room of a run of `need` bytes."""
        self._taken[name].remove(need)

    def _has_room(self, name: str, need: int) -> bool:
        taken = self._taken[name]
        # An estimate may be too high: alone, any run is given its chance.
        fits = not taken or sum(taken) + need <= self._memory.get(name, math.inf)
        return len(taken) < self._each and fits


class NoGPUError(AbsentError):
    """A GPU was asked for, or is needed, and there is none."""


@dataclass(frozen=True)
class Machine:
    """Devices and cores that runs are placed on.

    Attributes:
        devices: `cuda:0`, `cuda:1`, …, or `cpu` alone.
        cores: processors that this process may use, its quota of CPU time considered.
        memory: bytes of each GPU, by name.
        unusable: one sentence for each GPU that torch cannot compute on.
    """

    devices: tuple[str, ...]
    cores: int
    memory: tuple[tuple[str, int], ...] = ()
    unusable: tuple[str, ...] = ()

    @property
    def device(self) -> torch.device:
        """Return the first device."""
        return torch.device(self.devices[0])

    @property
    def has_gpu(self) -> bool:
        """Return whether runs go to a GPU."""
        return self.devices[0] != CPU

    def threads(self, jobs: int) -> int:
        """Return the threads of each run, with `jobs` runs at a time."""
        return max(1, self.cores // jobs)

    def slots(
        self,
        runs: int,
        jobs: int | None = None,
        per_gpu: int | None = None,
        gpus_per_run: int | None = None,
    ) -> Slots:
        """Return slots for runs: a GPU each, or on a CPU a core each, unless options say otherwise.

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
            return Slots.on_cpu(max(1, min(jobs or self.cores, runs)))
        gpus, at_once = len(self.devices), min(jobs or runs, runs)
        here = f"there {'is 1 GPU' if gpus == 1 else f'are {gpus} GPUs'} here"
        if gpus_per_run:
            room = gpus // gpus_per_run
            if not room:
                raise NoGPUError(f"{gpus_per_run} GPUs for each run: {here}")
            if jobs and jobs > room:
                raise UsageError(f"{jobs} runs at a time on {gpus_per_run} GPUs each: {here}")
            first_ones = self.devices[: room * gpus_per_run : gpus_per_run]
            return Slots(first_ones, 1, at_once=at_once)
        if jobs and jobs > gpus * (per_gpu or 1):
            raise UsageError(f"{jobs} runs at a time need --per-gpu {-(-jobs // gpus)}: {here}")
        return Slots(self.devices, per_gpu or 1, dict(self.memory), at_once)


def find_machine(device: str | None = None) -> Machine:
    """Return the GPUs of this machine that torch can compute on, or its CPU where there is none.

    Args:
        device: `cpu` or `cuda`; by default whichever is there.

    Raises:
        NoGPUError: `cuda` was asked for, and there is none or torch cannot compute on it.
    """
    gpus = torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0
    reasons = {number: why_unusable(number) for number in range(gpus)}
    usable = [number for number, reason in reasons.items() if reason is None]
    unusable = tuple(reason for reason in reasons.values() if reason is not None)
    if device == "cuda" and not usable:
        reason = "; ".join(unusable) or "no GPU that torch can use was found"
        raise NoGPUError(f"{reason}: see 'dia-repro doctor'")
    devices = tuple(f"cuda:{number}" for number in usable) or (CPU,)
    memory = [(f"cuda:{n}", torch.cuda.get_device_properties(n).total_memory) for n in usable]
    return Machine(devices, cores(), tuple(memory), unusable)


def why_unusable(gpu: int) -> str | None:
    """Return why this build of torch cannot compute on a GPU; None if it can."""
    built_for = torch.cuda.get_arch_list()
    capability = torch.cuda.get_device_capability(gpu)
    if runs_on(capability, built_for):
        return None
    name = torch.cuda.get_device_name(gpu)
    return (
        f"cuda:{gpu} ({name}) is sm_{capability[0]}{capability[1]}, and torch "
        f"{torch.__version__} is built for {', '.join(built_for)}: install a build that has it"
    )


def runs_on(capability: tuple[int, int], built_for: Sequence[str]) -> bool:
    """Return whether code for a GPU is among the architectures that torch was built for.

    Code for a GPU (`sm_86`) runs on the same major version from its minor version on, CUDA's
    portable code (`compute_90`) on every later GPU; with an "a" at the end on that GPU alone.

    Args:
        capability: the GPU's compute capability.
        built_for: value of `torch.cuda.get_arch_list`; GPUs of other makers are all taken.
    """
    known = [re.fullmatch(r"(sm|compute)_(\d+)(\d)([a-z]?)", name) for name in built_for]
    for match in filter(None, known):
        kind, major, minor, suffix = match.groups()
        least = (int(major), int(minor))
        if capability == least:
            return True
        related = kind == "compute" or capability[0] == least[0]
        if suffix != "a" and related and capability > least:
            return True
    return not any(known)
