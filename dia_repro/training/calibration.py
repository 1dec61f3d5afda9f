"""How fast this machine trains, from a few steps of a real network."""

from __future__ import annotations

import time

import torch

from dia_repro.experiments.spec import Spec
from dia_repro.models import from_spec
from dia_repro.training.step import CapturedStep, TrainingStep, to_device

LEAST_STEPS, LEAST_SECONDS = 2, 1.0
MOST_IMAGES = 64  # beyond, an image costs a CPU about the same


def images_of_a_step(spec: Spec, device: torch.device) -> int:
    """Return the number of images in a measured step.

    On a GPU it is a whole batch: launching a step's kernels takes a small network longer than
    computing them, so that half of a batch takes as long as all of it.
    """
    whole = spec.recipe.batch_size
    return whole if device.type == "cuda" else min(whole, MOST_IMAGES)


def seconds_per_image(spec: Spec, device: torch.device) -> float:
    """Seconds of training for an image.

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
