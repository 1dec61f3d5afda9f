"""Figure 6 before any training: gradients at the stages' outputs as networks are initialised.

A network without skips records them as it trains. Here each seed takes a forward and a backward
pass for each batch instead, so that many seeds can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice, product
from statistics import fmean

import torch

from dia_repro.data import load
from dia_repro.data.dataset import AnyDataset
from dia_repro.experiments.names import DataLocation
from dia_repro.experiments.spec import Spec
from dia_repro.training.gradients import Record, recorded
from dia_repro.training.numerics import prepare_process
from dia_repro.training.trainer import Trainer

Moments = tuple[dict[str, float], ...]
VALUES = ("mean", "variance")


def probe_gradients(
    specs: Sequence[Spec],
    seeds: Sequence[int],
    location: DataLocation,
    batches: int,
    cores: int,
    device: torch.device,
) -> Iterator[tuple[Spec, int, Moments]]:
    """Yield `initial_gradients` of each spec and seed; data are read once."""
    prepare_process(cores, device)
    loaded = {data: load(data, location) for data in dict.fromkeys(spec.data for spec in specs)}
    for spec, seed in product(specs, seeds):
        yield spec, seed, initial_gradients(spec, seed, loaded[spec.data], batches, device)


def initial_gradients(
    spec: Spec, seed: int, dataset: AnyDataset, batches: int, device: torch.device
) -> Moments:
    """Return mean and variance of |∂loss/∂output| for each stage, averaged over batches.

    Weights and batches are those with which the run of that seed begins; no step is made.

    Args:
        batches: largest number; there are no more than in an epoch.
    """
    trainer = Trainer(spec, seed, dataset, device)
    trainer.step.set_rate(0.0)
    trainer.begin_epoch(0)
    found = []
    for images, labels in islice(trainer.batches(0), batches):
        with recorded(list(trainer.model.stages)) as records:
            trainer.step.train_eagerly(images, labels)
        found.append(records)
    return tuple(
        {value: fmean(_value(record, value) for record in of_stage) for value in VALUES}
        for of_stage in zip(*found, strict=True)
    )


def _value(record: Record, value: str) -> float:
    """Return a record's value; inf where some elements are not finite, which it leaves out."""
    return math.inf if record["not_finite"] else float(record[value])
