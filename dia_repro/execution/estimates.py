"""What runs that are not trained yet will take: time and memory."""

from __future__ import annotations

import heapq
import math
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection

import numpy as np
import torch

from dia_repro.errors import DiaReproError
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

# What an output's way through memory costs, in multiply-accumulates. On a CPU convolutions take
# half of a small ResNet's step (measured), on a GPU without fusion a twentieth (reckoned only).
MACS_PER_OUTPUT = {"cpu": 80, "cuda": 1500}
# Of an epoch's training: a quarter to a fifth as many images, forward only.
EVALUATION = 0.06
# The dearest network is measured, too, if a step of it takes no longer.
LONGEST_STEP_SECONDS = 1.0
# A checkpoint is hashed, written and flushed; weights and momentum are 8 bytes a parameter.
SAVED_BYTES_A_SECOND = 100e6
BYTES_PER_PARAMETER = 8
# Of each run: its process, data, the first step, commits. Of all: loading torch.
RUN_SECONDS, START_SECONDS = 1.0, 4.0
# Of a network that is measured now.
LEAST_STEPS, LEAST_SECONDS = 2, 1.0
MOST_IMAGES = 64  # beyond, an image costs a CPU about the same


def with_estimates(
    planned: Sequence[PlannedRun],
    database: Database,
    machine: Machine,
    jobs: int,
    gpus: float = 1,
) -> list[PlannedRun]:
    """The same runs with seconds: as measured on this device before, or from a few steps now.

    A network that was never trained here is taken to be as fast for its work as those that were,
    on images of its size. Where there are none, the cheapest and the dearest one make a few steps
    now, as many at a time as there will be; for its work, one between them is taken to be between.

    Args:
        jobs: runs at a time, among which the cores are shared out.
        gpus: of each run; more than one are taken to be that many times as fast, where that has
            not been measured.

    Raises:
        NoGPUError: it is a cluster's GPU that would be trained on, there is none here to measure,
            and the database has no run of one.
    """
    open_runs = longest_first(planned)
    if not open_runs:
        return [replace(run, seconds=0.0) for run in planned]
    device, name = machine.device, _name(machine, database)
    measured = seconds_per_epoch(database, name)
    rates: dict[int, list[float]] = {}
    for run in planned:
        if run.spec.spec_id in measured:
            rate = measured[run.spec.spec_id] / _work(run, device)
            rates.setdefault(run.spec.data.image_size, []).append(rate)
    unknown = [run for run in open_runs if run.spec.data.image_size not in rates]
    rate_now = None
    if unknown and _is_here(machine):
        rate_now = _calibrate(unknown, machine, jobs)
    every = [rate for of_size in rates.values() for rate in of_size]

    def estimate(run: PlannedRun) -> float:
        if run.done:
            return 0.0
        epoch = measured.get(run.spec.spec_id)
        if epoch is None:
            known = rates.get(run.spec.data.image_size) or (None if rate_now else every)
            rate = statistics.median(known) if known else rate_now(run) if rate_now else 0.0
            epoch = rate * _work(run, device) / max(1, gpus)
        saved = run.counts.parameters * BYTES_PER_PARAMETER / SAVED_BYTES_A_SECOND
        return RUN_SECONDS + (epoch + saved) * run.spec.recipe.epochs * run.left

    return [replace(run, seconds=estimate(run)) for run in planned]


def _is_here(machine: Machine) -> bool:
    return not machine.has_gpu or torch.cuda.is_available()


def _name(machine: Machine, database: Database) -> str:
    """Of the device that is trained on; of a cluster's, what the database knows."""
    if _is_here(machine):
        return device_name(machine.device)
    known = most_used_gpu(database)
    if known is None:
        raise NoGPUError(
            "times on a cluster's GPUs are estimated on a machine that has one, or from runs that "
            f"were trained on one: there are none in {database.name}"
        )
    return known


def _calibrate(
    unknown: Sequence[PlannedRun], machine: Machine, jobs: int
) -> Callable[[PlannedRun], float]:
    """Seconds for a unit of work of any network, from the cheapest and the dearest of these."""
    threads = machine.threads(jobs)
    together = max(1, min(jobs, cores() // threads))

    def measure(run: PlannedRun) -> float:
        seconds = seconds_per_image(run.spec, machine.device, threads, together)
        return seconds * (1 + EVALUATION) / image(run)

    def image(run: PlannedRun) -> float:
        return _work_of_image(run, machine.device)

    cheapest, dearest = (choose(unknown, key=image) for choose in (min, max))
    works, rates = [math.log(image(cheapest))], [measure(cheapest)]
    step = rates[0] * image(dearest) * images_of_a_step(dearest.spec, machine.device)
    if step <= LONGEST_STEP_SECONDS and image(dearest) > image(cheapest):
        works, rates = [*works, math.log(image(dearest))], [*rates, measure(dearest)]
    return lambda run: float(np.interp(math.log(image(run)), works, rates))


def at_full_speed(machine: Machine, jobs: int, beside: int) -> int:
    """As many runs as get done what `jobs` at a time do: beyond a machine's cores they take turns.

    Args:
        beside: of the jobs, those on one machine.
    """
    if machine.has_gpu or beside <= machine.cores:
        return jobs
    return max(1, jobs * machine.cores // beside)


def wall_seconds(planned: Sequence[PlannedRun], jobs: int) -> float:
    """How long the estimated runs take with `jobs` at a time, the longest first."""
    open_runs = longest_first(planned)
    slots = [0.0] * jobs
    for run in open_runs:
        heapq.heapreplace(slots, slots[0] + (run.seconds or 0.0))
    return max(slots) + (START_SECONDS if open_runs else 0.0)


def _work(run: PlannedRun, device: torch.device) -> float:
    """What an epoch costs on a kind of device, in multiply-accumulates of a forward pass."""
    return _work_of_image(run, device) * run.training_images


def _work_of_image(run: PlannedRun, device: torch.device) -> float:
    return float(run.counts.macs + MACS_PER_OUTPUT[device.type] * run.counts.outputs)


class CalibrationError(DiaReproError):
    """A few steps could not be made."""


def seconds_per_image(spec: Spec, device: torch.device, threads: int, together: int) -> float:
    """Seconds of training for an image, in each of so many runs at the same time.

    They share memory and its bandwidth, and two processors are often one core.

    Args:
        threads: of each of them.
        together: how many; on a GPU it is one, whatever is asked.

    Raises:
        CalibrationError: a step failed, as without enough memory.
    """
    arguments = (spec.canonical_json(), str(device), threads)
    working = [
        forkserver.start_process(_measure, *arguments)
        for _ in range(1 if device.type == "cuda" else together)
    ]
    try:
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
    try:
        on = torch.device(device)
        prepare_process(threads, on)
        spec = Spec.from_json(spec_json)
        connection.send(measure_step(spec, on))
    except Exception as error:  # told to whoever asked, in a line
        connection.send(f"{type(error).__name__}: {error}".splitlines()[0])


def images_of_a_step(spec: Spec, device: torch.device) -> int:
    """Return the number of images in a measured step.

    On a GPU it is a whole batch: launching a step's kernels takes a small network longer than
    computing them, so that half of a batch takes as long as all of it.
    """
    whole = spec.recipe.batch_size
    return whole if device.type == "cuda" else min(whole, MOST_IMAGES)


def measure_step(spec: Spec, device: torch.device) -> float:
    """Seconds of training for an image, in this process.

    Takes one step to warm up and the mean of some more, at the image size of the spec: the mean,
    since whatever else the machine does will slow training down as well.
    """
    size = spec.data.image_size
    network = from_spec(spec.model, spec.data.classes)
    network = to_device(network, device)
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
