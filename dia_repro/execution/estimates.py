"""Estimates of the time that runs take which are not trained yet."""

from __future__ import annotations

import heapq
import math
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import numpy as np
import torch

from dia_repro.errors import DiaReproError, reason_of
from dia_repro.execution import forkserver
from dia_repro.execution.machine import Machine, NoGPUError
from dia_repro.execution.planning import PlannedRun, longest_first
from dia_repro.experiments.spec import Spec
from dia_repro.models import from_spec
from dia_repro.processors import cores
from dia_repro.results.database import Database
from dia_repro.results.queries import most_used_gpu, seconds_per_epoch
from dia_repro.training.captured import CapturedStep
from dia_repro.training.numerics import prepare_process
from dia_repro.training.provenance import device_name
from dia_repro.training.step import TrainingStep, to_device

# Cost of an output's way through memory, in multiply-accumulates. On a CPU convolutions take half
# of a small ResNet's step (measured), on a GPU without fusion a twentieth (estimated only).
MACS_PER_OUTPUT = {"cpu": 80, "cuda": 1500}
# Part of an epoch's training: a quarter to a fifth as many images, forward only.
EVALUATION = 0.06
# The most expensive network is measured, too, if a step of it takes no longer.
LONGEST_STEP_SECONDS = 1.0
# A checkpoint is hashed, written and flushed; weights and momentum are 8 bytes a parameter.
SAVED_BYTES_A_SECOND = 100e6
BYTES_PER_PARAMETER = 8
# For each run: its process, data, the first step, commits. For all: loading torch.
RUN_SECONDS, START_SECONDS = 1.0, 4.0
# A measurement of a network: steps, their duration, and images of a step, beyond which an image
# costs a CPU about the same.
LEAST_STEPS, LEAST_SECONDS = 2, 1.0
MOST_IMAGES = 64


def with_estimates(
    planned: Sequence[PlannedRun],
    database: Database,
    machine: Machine,
    jobs: int,
    gpus: float = 1,
) -> list[PlannedRun]:
    """Return the runs with seconds: as measured on this device before, or from a few steps now.

    A network that was never trained here is taken to be as fast for its work as those that were,
    on images of its size. Where there are none, the cheapest and the most expensive one make a few
    steps now, as many at a time as there will be; a network between them is taken to be between.

    Args:
        jobs: runs at a time, which share the cores.
        gpus: GPUs of each run; several are taken to be that many times as fast, where that has not
            been measured.

    Raises:
        NoGPUError: runs go to a cluster's GPU, there is none here to measure, and the database has
            no run of one.
    """
    open_runs = longest_first(planned)
    if not open_runs:
        return [replace(run, seconds=0.0) for run in planned]
    device, is_here = machine.device, not machine.has_gpu or torch.cuda.is_available()
    name = device_name(device) if is_here else most_used_gpu(database)
    if name is None:
        raise NoGPUError(
            "times on a cluster's GPUs are estimated on a machine that has one, or from runs that "
            f"were trained on one: there are none in {database.name}"
        )
    measured = seconds_per_epoch(database, name)
    rates: dict[int, list[float]] = {}
    for run in planned:
        if run.spec.spec_id in measured:
            rate = measured[run.spec.spec_id] / (_work(run, device) * run.training_images)
            rates.setdefault(run.spec.data.image_size, []).append(rate)
    unknown = [run for run in open_runs if run.spec.data.image_size not in rates]
    rate_now = _calibrate(unknown, machine, jobs) if unknown and is_here else None
    every = [rate for of_size in rates.values() for rate in of_size]

    def estimate(run: PlannedRun) -> float:
        if run.done:
            return 0.0
        epoch = measured.get(run.spec.spec_id)
        if epoch is None:
            known = rates.get(run.spec.data.image_size) or (None if rate_now else every)
            rate = statistics.median(known) if known else rate_now(run) if rate_now else 0.0
            epoch = rate * _work(run, device) * run.training_images / max(1, gpus)
        saved = run.counts.parameters * BYTES_PER_PARAMETER / SAVED_BYTES_A_SECOND
        return RUN_SECONDS + (epoch + saved) * run.spec.recipe.epochs * run.left

    return [replace(run, seconds=estimate(run)) for run in planned]


def _work(run: PlannedRun, device: torch.device) -> float:
    """Return the cost of an image's forward pass, in multiply-accumulates."""
    return float(run.counts.macs + MACS_PER_OUTPUT[device.type] * run.counts.outputs)


def _calibrate(
    unknown: Sequence[PlannedRun], machine: Machine, jobs: int
) -> Callable[[PlannedRun], float]:
    """Return the seconds for a unit of work of any network, from measurements of one or two."""
    threads = machine.threads(jobs)
    together = max(1, min(jobs, cores() // threads))

    def work(run: PlannedRun) -> float:
        return _work(run, machine.device)

    def measure(run: PlannedRun) -> float:
        seconds = seconds_per_image(run.spec, machine.device, threads, together)
        return seconds * (1 + EVALUATION) / work(run)

    cheapest, costliest = (choose(unknown, key=work) for choose in (min, max))
    works, rates = [math.log(work(cheapest))], [measure(cheapest)]
    step = rates[0] * work(costliest) * images_of_a_step(costliest.spec, machine.device)
    if step <= LONGEST_STEP_SECONDS and work(costliest) > work(cheapest):
        works, rates = [*works, math.log(work(costliest))], [*rates, measure(costliest)]
    return lambda run: float(np.interp(math.log(work(run)), works, rates))


def at_full_speed(machine: Machine, jobs: int, together: int) -> int:
    """Return the runs at a time that get as much done as `jobs`, which may have to take turns.

    Args:
        together: number of the jobs on one machine.
    """
    if machine.has_gpu or together <= machine.cores:
        return jobs
    return max(1, jobs * machine.cores // together)


def wall_seconds(planned: Sequence[PlannedRun], jobs: int) -> float:
    """Return the time that estimated runs take with `jobs` at a time, the longest first."""
    open_runs = longest_first(planned)
    slots = [0.0] * jobs
    for run in open_runs:
        heapq.heapreplace(slots, slots[0] + (run.seconds or 0.0))
    return max(slots) + (START_SECONDS if open_runs else 0.0)


class CalibrationError(DiaReproError):
    """A network could not be measured."""


def seconds_per_image(spec: Spec, device: torch.device, threads: int, together: int) -> float:
    """Return the seconds of training for an image, in each of several concurrent runs.

    They share memory and its bandwidth, and two processors are often one core.

    Args:
        threads: threads of each run.
        together: number of runs on a CPU; on a GPU it is always one.

    Raises:
        CalibrationError: a step failed, e.g. for lack of memory.
    """
    arguments = (spec.canonical_json(), str(device), threads)
    count = 1 if device.type == "cuda" else together
    working: list[tuple[BaseProcess, Connection]] = []
    try:
        for _ in range(count):
            working.append(forkserver.start_process(_measure, *arguments))  # noqa: PERF401
        return statistics.mean(_answer(ours) for _, ours in working)
    finally:
        for process, ours in working:
            forkserver.send_signal(process, signal.SIGKILL)  # it has nothing to save
            forkserver.join(process)
            ours.close()


def _answer(connection: Connection) -> float:
    try:
        answer: float | str = connection.recv()
    except EOFError:
        answer = "its process died: is there enough memory?"
    if isinstance(answer, str):
        raise CalibrationError(f"a few steps of training failed: {answer}")
    return answer


def _measure(spec_json: str, device: str, threads: int, connection: Connection) -> None:
    # Who asked may be interrupted before it knows of this process, and then ends without it.
    forkserver.end_with_parent(1)
    answer: float | str
    try:
        on = torch.device(device)
        prepare_process(threads, on)
        answer = measure_step(Spec.from_json(spec_json), on)
    except Exception as error:  # sent in a line to the process that asked
        answer = reason_of(error)
    with suppress(BrokenPipeError):  # the process that asked has ended
        connection.send(answer)


def images_of_a_step(spec: Spec, device: torch.device) -> int:
    """Return the number of images in a measured step.

    On a GPU it is a whole batch: launching a step's kernels takes a small network longer than
    computing them, so that half of a batch takes as long as all of it.
    """
    whole = spec.recipe.batch_size
    return whole if device.type == "cuda" else min(whole, MOST_IMAGES)


def measure_step(spec: Spec, device: torch.device) -> float:
    """Return the seconds of training for an image, in this process.

    They are the mean of some steps after one to warm up, at the image size of the spec: the mean,
    since other work of the machine will slow training down as well.
    """
    size = spec.data.image_size
    network = to_device(from_spec(spec.model, spec.data.classes), device)
    arguments = (network, spec.recipe, spec.precision, device)
    # Compiled it would be faster yet, and the answer a minute late.
    on_gpu = device.type == "cuda"
    step = CapturedStep(*arguments, compiled=False) if on_gpu else TrainingStep(*arguments)
    images = torch.randn(images_of_a_step(spec, device), 3, size, size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(len(images), dtype=torch.int64, device=device)

    def take_step() -> None:
        step.train(images, labels)
        step.tally.read()  # waits for the device

    take_step()
    started, steps = time.perf_counter(), 0
    while steps < LEAST_STEPS or time.perf_counter() - started < LEAST_SECONDS:
        take_step()
        steps += 1
    return (time.perf_counter() - started) / (steps * len(images))
