"""Limit of training on streamed images: decoding them, or the training step."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from dia_repro.data.registry import is_streamed, sample
from dia_repro.errors import DiaReproError
from dia_repro.execution.estimates import seconds_per_image
from dia_repro.execution.machine import Machine
from dia_repro.execution.planning import PlannedRun
from dia_repro.experiments.names import FOLDER, PACKED, DataLocation
from dia_repro.experiments.spec import DataSpec

SAMPLE = 80  # images that are decoded to see how long that takes


@dataclass(frozen=True)
class DataLimit:
    """Rates at which images of one data set are decoded and trained on here.

    Attributes:
        data: name of the data.
        decoded: images a second that the cores of one run decode.
        cores: cores of one run.
        network: name of the network that trains fastest.
        trained: images a second that its training step takes; None where it was not measured.
        device: device that trains it; `cpu` shares its cores with the decoding.
        pack: command that packs the data; None where they are packed.
    """

    data: str
    decoded: float
    cores: int
    network: str
    trained: float | None
    device: str
    pack: str | None = None

    def sentence(self) -> str:
        """Return one line for people."""
        cores = f"{self.cores} cores decode" if self.cores > 1 else "1 core decodes"
        decoding = f"Data: {cores} {_number(self.decoded)} images/s of {self.data}"
        if self.trained is None:
            return f"{decoding}."
        limit = "the training step limits"
        if self.trained > self.decoded:
            remedy = f"; '{self.pack}' makes decoding faster" if self.pack else ""
            limit = f"the data limit{remedy}"
        training = f"{self.network} trains on {_number(self.trained)} on {self.device}"
        return f"{decoding}, {training}: {limit}."


def _number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def data_limits(
    planned: Sequence[PlannedRun], machine: Machine, at_once: int, location: DataLocation
) -> dict[DataSpec, DataLimit]:
    """Return the limit of each streamed data set that is here, by its fastest training.

    Args:
        planned: runs with estimates.
        at_once: number of runs that share the machine.

    Raises:
        CalibrationError: a GPU cannot train a network.
    """
    fastest: dict[DataSpec, PlannedRun] = {}
    for run in sorted(planned, key=lambda run: run.counts.macs):
        if not run.done and is_streamed(run.spec.data):
            fastest.setdefault(run.spec.data, run)
    limits = {}
    for data, run in fastest.items():
        try:
            per_core = decoded_per_second(data, location)
        except DiaReproError:  # damaged or not here: the command that loads them says so
            continue
        own = f"{FOLDER}{location.folder}" if data.dataset.startswith(FOLDER) else data.dataset
        limits[data] = DataLimit(
            data=data.dataset,
            decoded=per_core * machine.threads(at_once),
            cores=machine.threads(at_once),
            network=run.spec.model.label,
            trained=_trained_per_second(run, machine),
            device=machine.devices[0],
            pack=None if own.startswith(PACKED) else f"dia-repro data pack {own}",
        )
    return limits


def decoded_per_second(data: DataSpec, location: DataLocation) -> float:
    """Return the training images a second that one core reads, decodes and augments.

    The first reading counts, as it does in training: from the disk where memory does not hold all.

    Raises:
        DataError: images are not here, or one cannot be decoded.
    """
    from dia_repro.data.decoding import Decoded, Wanted  # brings torchvision

    dataset = sample(data, location, SAMPLE)
    count = len(dataset.train)
    decoded, threads = Decoded(dataset), torch.get_num_threads()
    torch.set_num_threads(1)  # as workers have it
    try:
        begun = time.perf_counter()
        for number, index in enumerate(random.sample(range(count), min(SAMPLE, count))):
            decoded[Wanted("train", index, number)]
            if number == 0 and count > 1:  # the first one pays for what is loaded once
                begun = time.perf_counter()
        return max(1, min(SAMPLE, count) - 1) / (time.perf_counter() - begun)
    finally:
        torch.set_num_threads(threads)


def _trained_per_second(run: PlannedRun, machine: Machine) -> float | None:
    """Return the rate of training; on a GPU measured, since earlier runs may have waited."""
    if machine.has_gpu:  # in another process: a GPU that fails would end this one
        return 1 / seconds_per_image(run.spec, machine.device, machine.threads(1), together=1)
    images = run.training_images * run.spec.recipe.epochs * run.left
    return images / run.seconds if run.seconds else None


def with_decoding(
    planned: Sequence[PlannedRun], limits: Mapping[DataSpec, DataLimit], *, shared: bool
) -> list[PlannedRun]:
    """Add the time of decoding to estimates of training alone.

    Args:
        planned: runs with estimates.
        shared: whether training and decoding have the same cores, and take turns, or work at the
            same time.
    """
    slowed = []
    for run in planned:
        limit, seconds = limits.get(run.spec.data), run.seconds
        if limit is not None and seconds is not None:
            decoding = run.training_images * run.spec.recipe.epochs * run.left / limit.decoded
            seconds = seconds + decoding if shared else max(seconds, decoding)
        slowed.append(replace(run, seconds=seconds))
    return slowed
