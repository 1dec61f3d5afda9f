"""What runs that are not trained yet will take: time and memory."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

import torch

from dia_repro.execution.machine import Machine, NoGPUError
from dia_repro.execution.planning import PlannedRun, longest_first
from dia_repro.results.database import Database
from dia_repro.results.queries import seconds_per_epoch
from dia_repro.training.calibration import seconds_per_image
from dia_repro.training.numerics import use_threads
from dia_repro.training.provenance import device_name

# What an output's way through memory costs, in multiply-accumulates. On a CPU convolutions take
# half of a small ResNet's step (measured), on a GPU without fusion a twentieth (reckoned only).
MACS_PER_OUTPUT = {"cpu": 80, "cuda": 1500}


def with_estimates(
    planned: Sequence[PlannedRun], database: Database, machine: Machine, jobs: int
) -> list[PlannedRun]:
    """The same runs with seconds: as measured on this device before, or from a few steps now.

    A network that was never trained here is taken to be as fast for its work as those that were,
    on images of its size; where there are none, as the cheapest one is in a few steps now.

    Args:
        jobs: runs at a time, among which the cores are shared out.

    Raises:
        NoGPUError: it is a cluster's GPU that would be trained on, and none is here to measure.
    """
    open_runs = longest_first(planned)
    if not open_runs:
        return [replace(run, seconds=0.0) for run in planned]
    device = machine.device
    if machine.has_gpu and not torch.cuda.is_available():
        raise NoGPUError("times on a cluster's GPUs are estimated on a machine that has one")
    measured = seconds_per_epoch(database, device_name(device))
    rates: dict[int, list[float]] = {}
    for run in planned:
        if run.spec.spec_id in measured:
            rate = measured[run.spec.spec_id] / _work(run, device)
            rates.setdefault(run.spec.data.image_size, []).append(rate)
    unknown = [run for run in open_runs if run.spec.data.image_size not in rates]
    if unknown:
        use_threads(machine.threads(jobs))
        cheapest = unknown[-1]
        seconds = seconds_per_image(cheapest.spec, device) * cheapest.training_images
        for run in unknown:
            rates[run.spec.data.image_size] = [seconds / _work(cheapest, device)]

    def estimate(run: PlannedRun) -> float:
        epoch = measured.get(run.spec.spec_id)
        if epoch is None and not run.done:
            epoch = statistics.median(rates[run.spec.data.image_size]) * _work(run, device)
        return (epoch or 0.0) * run.spec.recipe.epochs * run.left

    return [replace(run, seconds=estimate(run)) for run in planned]


def wall_seconds(planned: Sequence[PlannedRun], jobs: int) -> float:
    """How long the estimated runs take with `jobs` at a time, the longest first."""
    slots = [0.0] * jobs
    for run in longest_first(planned):
        slots[slots.index(min(slots))] += run.seconds or 0.0
    return max(slots)


def _work(run: PlannedRun, device: torch.device) -> float:
    """What an epoch costs on a kind of device, in multiply-accumulates of a forward pass."""
    per_image = run.counts.macs + MACS_PER_OUTPUT[device.type] * run.counts.outputs
    return float(per_image * run.training_images)
