"""Candidates: modes of training a spec, each an endless stream of steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from benchmarks.step.images import image_files, packed_dataset, random_images
from dia_repro.experiments.spec import Spec
from dia_repro.training.captured import CapturedStep
from dia_repro.training.step import TrainingStep
from dia_repro.training.trainer import Trainer


class Mode(StrEnum):
    """Modes of training."""

    REFERENCE = "reference"
    OURS = "ours"
    PLAIN = "plain"  # our loop and data path, with the plain modules
    CAPTURED = "captured"  # on a GPU: the hand-written passes in a graph, not compiled
    FIXED = "fixed batch"  # ours, without the data path
    FILES = "from files"  # ours, from JPEG files on disk
    PACKED = "packed"  # ours, from the same photographs packed
    SYNTHETIC_AMP = "eager amp"  # fixed batch, eager NCHW autocast: ImageNet's reference


@dataclass(frozen=True)
class Task:
    """Work of a candidate.

    Attributes:
        spec_json: the experiment; random images of the same shape replace its data.
        training_images, test_images: numbers of images of an epoch.
        deterministic: whether only algorithms that always give the same bits are used.
    """

    mode: Mode
    spec_json: str
    device: str
    threads: int
    training_images: int
    test_images: int
    deterministic: bool = False

    @property
    def spec(self) -> Spec:
        """The experiment."""
        return Spec.from_json(self.spec_json)


def stream(task: Task) -> tuple[Iterator[int], Callable[[], None], str]:
    """Train without end, with an evaluation after each epoch.

    Returns:
        An iterator, a function that waits until the device has finished, and the execution mode.
        The iterator yields the number of training images of each step, and 0 after an evaluation,
        when the work has been launched.
    """
    device = torch.device(task.device)

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    if task.mode in (Mode.FILES, Mode.PACKED):
        return _from_files(task), wait, f"decoded by {task.threads}"
    dataset = random_images(task.spec, task.training_images, task.test_images)
    if task.mode is Mode.REFERENCE:
        from benchmarks.step.reference import ReferenceLoop  # brings torchvision

        return ReferenceLoop(task.spec, dataset, device).steps(), wait, "reference"
    trainer = Trainer(task.spec, 0, dataset, device, task.threads)
    if task.mode is Mode.SYNTHETIC_AMP:
        return _eager_amp(trainer), wait, "eager, autocast, NCHW"
    recipe, precision = task.spec.recipe, task.spec.precision
    if task.mode is Mode.PLAIN:
        trainer.step = TrainingStep(trainer.model, recipe, precision, device, plain=True)
    elif task.mode is Mode.CAPTURED:
        trainer.step = CapturedStep(trainer.model, recipe, precision, device, compiled=False)
    steps = _fixed(trainer) if task.mode is Mode.FIXED else _epochs(trainer)
    first = next(steps)  # which decides the execution mode
    return chain((first,), steps), wait, trainer.step.how


def _epochs(trainer: Trainer) -> Iterator[int]:
    trainer.step.set_rate(0.0)  # noise cannot be learnt, and a divergence would end the training
    epoch = 0
    while True:
        trainer.begin_epoch(epoch)
        for images, labels in trainer.batches(epoch):
            trainer.train(images, labels)
            yield len(labels)
        trainer.evaluate()
        yield 0
        epoch += 1


def _from_files(task: Task) -> Iterator[int]:
    data = task.spec.data
    with TemporaryDirectory(prefix="dia-repro-bench-") as folder:
        root = Path(folder)
        counts = (task.training_images, task.test_images)
        dataset = image_files(data.dataset, data.image_size, *counts, root / "files")
        if task.mode is Mode.PACKED:
            dataset = packed_dataset(dataset, root / "pack", task.threads)
        yield from _epochs(Trainer(task.spec, 0, dataset, torch.device(task.device), task.threads))


def _one_batch(trainer: Trainer) -> tuple[Tensor, Tensor]:
    images, labels = next(iter(trainer.batches(0)))
    return images.clone(), labels.clone()


def _fixed(trainer: Trainer) -> Iterator[int]:
    trainer.step.set_rate(0.0)
    images, labels = _one_batch(trainer)
    while True:
        trainer.begin_epoch(0)
        for _ in range(trainer.steps_per_epoch):
            trainer.train(images, labels)
            yield len(labels)
        trainer.evaluate()
        yield 0


def _eager_amp(trainer: Trainer) -> Iterator[int]:
    images, labels = _one_batch(trainer)
    images = images.contiguous()
    model = trainer.model.to(memory_format=torch.contiguous_format).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9, weight_decay=1e-4)
    mixed = torch.autocast(trainer.device.type, torch.bfloat16)
    while True:
        for _ in range(trainer.steps_per_epoch):
            with mixed:
                loss = torch.nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
            yield len(labels)
        model.eval()
        for some, _ in trainer.data.test_batches(trainer.spec.recipe.batch_size):
            with torch.no_grad(), mixed:
                model(some.contiguous()).argmax(1).tolist()
        model.train()
        yield 0
