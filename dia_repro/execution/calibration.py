"""How fast training is here while as many runs as there will be train beside each other."""

from __future__ import annotations

import signal
import statistics
import time
from multiprocessing.connection import Connection

import torch

from dia_repro.errors import DiaReproError
from dia_repro.execution import forkserver
from dia_repro.experiments.spec import Spec
from dia_repro.models import from_spec
from dia_repro.training.captured import CapturedStep
from dia_repro.training.numerics import prepare_process
from dia_repro.training.step import TrainingStep, to_device

LEAST_STEPS, LEAST_SECONDS = 2, 1.0
MOST_IMAGES = 64  # beyond, an image costs a CPU about the same


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
