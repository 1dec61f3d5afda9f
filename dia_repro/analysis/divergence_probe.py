"""Divergence probe: the initial steps of a training, and the logits before them.

Without BN these steps decide Table 8. A variation changes what the paper does not state, or what
depends on the data: the initialisation of convolutions, the rate, the number of classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice, product

import torch
from torch import Tensor, nn

from dia_repro.data import load
from dia_repro.data.dataset import AnyDataset, Dataset, Images
from dia_repro.errors import UsageError
from dia_repro.experiments.names import DataLocation, Init
from dia_repro.experiments.spec import Spec
from dia_repro.training.numerics import prepare_process
from dia_repro.training.seeding import global_seed
from dia_repro.training.trainer import Diverged, Trainer

_DRAW: dict[Init, Callable[[nn.Conv2d], object]] = {
    Init.FAN_IN: lambda conv: nn.init.kaiming_normal_(conv.weight, nonlinearity="relu"),
    Init.XAVIER: lambda conv: nn.init.xavier_normal_(conv.weight),
    Init.TORCH: nn.Conv2d.reset_parameters,
}


@dataclass(frozen=True)
class Variation:
    """Changes to an experiment; None changes nothing.

    Attributes:
        init: initialisation of convolutions. own: the network's; fan-in: He's with the number of
            inputs, normal; xavier: Glorot's, normal; torch: the default of `nn.Conv2d`.
        classes: number of classes into which the data's are cut, see `cut`.
    """

    init: Init = Init.OWN
    classes: int | None = None


@dataclass(frozen=True)
class InitialSteps:
    """Result of a probe.

    Attributes:
        spread: standard deviation of all logits of the first batch, before any step.
        losses: mean loss of each step's batch before that step, in nats; the last may not be
            finite.
    """

    spread: float
    losses: tuple[float, ...]

    @property
    def diverged_at(self) -> int | None:
        """Number of the step whose loss was not finite, from 1; None if all were finite."""
        return None if math.isfinite(self.losses[-1]) else len(self.losses)


def initial_steps(
    spec: Spec,
    seed: int,
    dataset: AnyDataset,
    steps: int,
    device: torch.device,
    variation: Variation = Variation(),
) -> InitialSteps:
    """Train for a few steps of the first epoch, with the draws of the run of that seed.

    Args:
        steps: largest number; a divergence, or the end of the epoch, is the last step.

    Raises:
        UsageError: see `cut`.
    """
    if variation.classes is not None:
        dataset = cut(dataset, spec.data.classes, variation.classes)
        data = spec.data.model_copy(update={"classes": variation.classes})
        spec = spec.model_copy(update={"data": data})
    trainer = Trainer(spec, seed, dataset, device)
    if variation.init is not Init.OWN:
        with torch.no_grad(), global_seed(seed, "init"):
            for module in trainer.model.modules():
                if isinstance(module, nn.Conv2d):
                    _DRAW[variation.init](module)
    trainer.step.set_rate(spec.recipe.lr)
    spreads: list[float] = []

    def measure_first(_model: nn.Module, _arguments: object, logits: Tensor) -> None:
        spreads.append(float(logits.detach().std()))
        handle.remove()

    handle = trainer.model.register_forward_hook(measure_first)
    trainer.begin_epoch(0)
    losses = tuple(islice(_losses(trainer), steps))
    return InitialSteps(spreads[0], losses)


def probe(
    specs: Sequence[Spec],
    seeds: Sequence[int],
    location: DataLocation,
    steps: int,
    cores: int,
    device: torch.device,
    variation: Variation,
) -> Iterator[tuple[Spec, int, InitialSteps]]:
    """Yield the initial steps of each spec and seed; data are read once."""
    prepare_process(cores, device)
    loaded = {data: load(data, location) for data in dict.fromkeys(spec.data for spec in specs)}
    for spec, seed in product(specs, seeds):
        data = loaded[spec.data]
        yield spec, seed, initial_steps(spec, seed, data, steps, device, variation)


def _losses(trainer: Trainer) -> Iterator[float]:
    """Yield the loss of each step of the first epoch, up to the first that is not finite."""
    sums = trainer.step.tally.sums
    for images, labels in trainer.batches(0):
        before = float(sums[0])
        with suppress(Diverged):  # the sums include its loss
            trainer.train(images, labels)
        loss = (float(sums[0]) - before) / len(labels)
        yield loss
        if not math.isfinite(loss):
            return


def cut(dataset: AnyDataset, classes: int, wanted: int) -> Dataset:
    """Return the same images in k times as many classes: those of class c in turn in c·k … c·k+k-1.

    Raises:
        UsageError: the number wanted is no multiple of the number of classes, or images are
            streamed.
    """
    if not isinstance(dataset, Dataset):
        raise UsageError("--classes cuts the classes of images of at most 64 pixels only")
    if wanted % classes:
        raise UsageError(f"{classes} classes cannot be cut into {wanted} of one size")
    parts = wanted // classes

    def cut_images(images: Images) -> Images:
        labels = images.labels * parts
        for label in images.labels.unique():
            indices = (images.labels == label).nonzero().flatten()
            labels[indices] += torch.arange(len(indices)) % parts
        return replace(images, labels=labels)

    return replace(dataset, train=cut_images(dataset.train), test=cut_images(dataset.test))
