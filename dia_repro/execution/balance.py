"""Data path against training, for images that are streamed: what `plan` and `doctor` say of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dia_repro.errors import DiaReproError
from dia_repro.experiments.names import FOLDER, PACKED

if TYPE_CHECKING:
    from dia_repro.data.throughput import CoreRate
    from dia_repro.execution.bottleneck import Balance
    from dia_repro.execution.machine import Machine
    from dia_repro.execution.planning import PlannedRun
    from dia_repro.experiments.names import DataLocation
    from dia_repro.experiments.spec import DataSpec, Spec


def balances(
    planned: Sequence[PlannedRun], machine: Machine, at_once: int, location: DataLocation
) -> dict[DataSpec, Balance]:
    """For each streamed data set of runs with estimates, against its fastest training."""
    from dia_repro.execution.bottleneck import is_streamed

    fastest: dict[DataSpec, PlannedRun] = {}
    for run in sorted(planned, key=lambda one: one.counts.macs):
        if not run.done and is_streamed(run.spec.data):
            fastest.setdefault(run.spec.data, run)
    found = {}
    for data, run in fastest.items():
        balance = _balance(run.spec, machine, at_once, location, _images_a_second(run, machine))
        if balance is not None:
            found[data] = balance
    return found


def _images_a_second(run: PlannedRun, machine: Machine) -> float | None:
    """Of training on a CPU, as estimated; what was measured on a GPU may have waited for data."""
    images = run.training_images * run.spec.recipe.epochs * run.left
    return images / run.seconds if run.seconds and not machine.has_gpu else None


def imagenet_balance(machine: Machine, data: Path) -> Balance | None:
    """ImageNet's data path against the fastest of the paper's networks, on a GPU if there is one.

    On a CPU a few steps would take minutes, and say that training is slower.
    """
    from dia_repro.artifacts import choose
    from dia_repro.execution.requests import chosen_entries
    from dia_repro.experiments.names import DataLocation, Precision, Protocol
    from dia_repro.experiments.protocols import GPU_PRECISION, Request
    from dia_repro.models import count

    precision = GPU_PRECISION[Protocol.PAPER] if machine.has_gpu else Precision.FP32
    request = Request(Protocol.PAPER, precision)
    specs = [entry.spec(request) for _, entry in chosen_entries(choose(["table3"]))]
    specs = [spec for spec in specs if spec.data.dataset == "imagenet"]
    lightest = min(specs, key=lambda spec: count(spec.model, 1000, spec.data.image_size).macs)
    return _balance(lightest, machine, 1, DataLocation(data), None)


def _balance(
    spec: Spec,
    machine: Machine,
    at_once: int,
    location: DataLocation,
    training: float | None,
) -> Balance | None:
    """None where the data cannot be measured.

    Raises:
        CalibrationError: a GPU cannot train the network.
    """
    from dia_repro.execution.bottleneck import Balance
    from dia_repro.experiments.describe import describe_model

    try:
        rate = _rate(spec.data, location)
    except DiaReproError:  # damaged or gone: said where it matters, by whoever loads them
        return None
    name = spec.data.dataset
    own = f"{FOLDER}{location.folder}" if name.startswith(FOLDER) else name
    return Balance(
        data=name,
        rate=rate,
        cores=machine.threads(at_once),
        runs=at_once,
        network=describe_model(spec.model),
        training=_trained_a_second(spec, machine) if machine.has_gpu else training,
        device=machine.devices[0],
        pack=None if name.startswith(PACKED) else f"dia-repro data pack {own}",
    )


def _rate(data: DataSpec, location: DataLocation) -> CoreRate:
    from dia_repro.data import throughput
    from dia_repro.data.inspection import MEMORY
    from dia_repro.data.packed import open_pack

    if data.dataset == "imagenet":
        folder = location.root / "imagenet"
        if not (folder / "train").is_dir():
            return throughput.rate_of_made_up(data.image_size)
        return throughput.rate_of_folder(folder, data.image_size, turn=False)
    if location.folder is None:
        return throughput.rate_of_made_up(data.image_size)
    if data.dataset.startswith(PACKED):
        pack = open_pack(location.folder, location.root / MEMORY)
        return throughput.rate_of_pack(pack, data.image_size)
    return throughput.rate_of_folder(location.folder, data.image_size, turn=True)


def _trained_a_second(spec: Spec, machine: Machine) -> float:
    from dia_repro.execution.estimates import seconds_per_image

    # In another process: a GPU whose memory is full, or that fails, would end this one.
    return 1 / seconds_per_image(spec, machine.device, machine.threads(1), together=1)
