"""GPUs that are not here, and an estimate of the time that a run takes on one.

A training step is taken to need a time for each call of a layer (its kernels are too small to fill
a GPU), for the numbers that it moves, and for its arithmetic. The shares of the stated speeds are
such that ResNet164's step on an H200 takes 12 ms in bf16 (11.0 measured), DIANet164's 19 ms (14.1
measured). Nothing else was measured: take it for half to twice the truth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dia_repro.errors import UsageError
from dia_repro.execution.machine import Machine
from dia_repro.execution.planning import BACKWARD_AND_FORWARD, PlannedRun
from dia_repro.processors import cores

CALL_SECONDS = 34e-6  # of a layer, forward and backward, with what follows it
SHARE = 0.3  # of the stated speeds
PASSES = 9  # through memory of each output of a layer, forward and backward
EVALUATION = 0.06  # of an epoch's training


@dataclass(frozen=True)
class GPU:
    """A kind of GPU, with what its maker states of it (dense arithmetic, no sparsity).

    Attributes:
        memory: GB.
        bandwidth: of its memory, TB/s.
        fp32, tf32, bf16: TFLOP/s; without units for a precision, those of the next wider one.
    """

    name: str
    memory: int
    bandwidth: float
    fp32: float
    tf32: float
    bf16: float

    def machine(self, count: int) -> Machine:
        """Return a machine with that many of it, and as many cores as this one."""
        devices = tuple(f"cuda:{number}" for number in range(count))
        memory = tuple((device, self.memory * 10**9) for device in devices)
        return Machine(devices, cores(), memory)

    def seconds(self, run: PlannedRun) -> float:
        """Return the estimated time that is left to train of a run, alone on this GPU."""
        counts, precision = run.counts, run.spec.precision
        number = 2 if precision == "bf16" else 4
        flops: float = getattr(self, precision)
        moved = counts.outputs * number * PASSES / (self.bandwidth * 1e12 * SHARE)
        operations = 2 * BACKWARD_AND_FORWARD * counts.macs
        computed = operations / (flops * 1e12 * SHARE)
        called = counts.calls * CALL_SECONDS / run.spec.recipe.batch_size
        epoch = run.training_images * (moved + computed + called) * (1 + EVALUATION)
        return epoch * run.spec.recipe.epochs * run.left


GPUS = {
    gpu.name: gpu
    for gpu in (
        GPU("t4", 16, 0.32, 8.1, 8.1, 8.1),
        GPU("v100", 16, 0.9, 15.7, 15.7, 15.7),
        GPU("a10", 24, 0.6, 31.2, 62.5, 125),
        GPU("l4", 24, 0.3, 30.3, 60, 121),
        GPU("rtx3090", 24, 0.936, 35.6, 35.6, 71),
        GPU("rtx4090", 24, 1.008, 82.6, 82.6, 165),
        GPU("a100", 80, 2.0, 19.5, 156, 312),
        GPU("h100", 80, 3.35, 67, 495, 989),
        GPU("h200", 141, 4.8, 67, 495, 989),
        GPU("b200", 180, 8.0, 75, 1100, 2250),
    )
}


def find_gpu(name: str) -> GPU:
    """Return a kind of GPU by its name.

    Raises:
        UsageError: it is not in the table.
    """
    if name.lower() not in GPUS:
        raise UsageError(f"no speed of {name!r} is known: choose one of {', '.join(GPUS)}")
    return GPUS[name.lower()]


def with_estimates_on(gpu: GPU, planned: list[PlannedRun]) -> list[PlannedRun]:
    """Return the runs with the seconds that they are estimated to take on a GPU."""
    return [replace(run, seconds=gpu.seconds(run)) for run in planned]
