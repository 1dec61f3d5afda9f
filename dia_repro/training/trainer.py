"""The training of one spec with one seed, epoch by epoch, resumable at any batch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import torch

from dia_repro.data import AnyDataset, Batch, batches_of
from dia_repro.experiments.spec import Spec
from dia_repro.models import count_parameters, from_spec
from dia_repro.training.metrics import EpochMetrics, Tally
from dia_repro.training.numerics import check_precision
from dia_repro.training.schedule import learning_rate
from dia_repro.training.seeding import derive_seed, generator, global_seed
from dia_repro.training.step import TrainingStep

TEST_BATCH = 512
# Reading the loss from a GPU stalls it, so the check for explosions is rare there.
CHECK_EVERY = {"cpu": 1}
CHECK_EVERY_ON_GPU = 50


class Diverged(Exception):  # noqa: N818 - an outcome of training, not an error
    """The loss, or a weight at the end of an epoch, is no longer finite.

    Attributes:
        epoch: counted from 1.
        step: steps made in that epoch when it was seen.
        loss: the loss then (nan or inf; finite if a weight was not).
    """

    def __init__(self, epoch: int, step: int, loss: float) -> None:
        super().__init__(f"loss {loss} at step {step} of epoch {epoch}")
        self.epoch, self.step, self.loss = epoch, step, loss


class Stopped(Exception):  # noqa: N818 - asked for, not an error
    """Training was asked to stop; the trainer's state is good to be saved."""


class Trainer:
    """Trains one network; knows nothing of where results go.

    Args:
        spec: the experiment.
        seed: decides every random draw.
        dataset: the data that the spec names.
        device: where to train.
        workers: processes that decode images, where the data set is not held decoded.

    Attributes:
        history: the figures of the epochs that are done.
        parameters: #P of the network.
    """

    def __init__(
        self,
        spec: Spec,
        seed: int,
        dataset: AnyDataset,
        device: torch.device,
        workers: int = 0,
    ) -> None:
        check_precision(spec.precision, device)
        self.spec, self.seed, self.device = spec, seed, device
        with global_seed(seed, "weights"):
            model = from_spec(spec.model, spec.data.classes)
        self.model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.parameters = count_parameters(model)
        self.data = batches_of(dataset, spec.data.augmentation, device, workers)
        self.step = TrainingStep(self.model, spec.recipe, spec.precision, device)
        self.steps_per_epoch = math.ceil(dataset.training_images / spec.recipe.batch_size)
        self.history: list[EpochMetrics] = []
        self._position = 0
        self._seconds = 0.0
        self._tally = Tally(device)

    @property
    def finished(self) -> bool:
        """Whether every epoch of the recipe is done."""
        return len(self.history) >= self.spec.recipe.epochs

    @property
    def position(self) -> int:
        """Steps done in the epoch under way."""
        return self._position

    def run_epoch(self, on_step: Callable[[int], bool] | None = None) -> EpochMetrics:
        """Train to the end of the epoch under way, then evaluate on the whole test set.

        Args:
            on_step: called with the steps done in this epoch; True asks to stop.

        Raises:
            Diverged: at the first loss that is not finite (on a GPU: when it is next read).
            Stopped: `on_step` asked for it.
        """
        started = time.perf_counter() - self._seconds
        epoch = len(self.history)
        if self._position == 0:
            torch.manual_seed(derive_seed(self.seed, "dropout", epoch))
            self._tally = Tally(self.device)
        self.model.train()
        lr = learning_rate(self.spec.recipe, epoch)
        self.step.set_rate(lr)
        for images, labels in self._batches(epoch):
            loss, logits = self.step.train(images, labels)
            self._tally.add(loss, logits, labels)
            self._position += 1
            self._check(loss, epoch)
            if on_step is not None and on_step(self._position):
                self._seconds = time.perf_counter() - started
                raise Stopped
        self._check_weights(epoch)
        train_loss, train_top1 = self._tally.read()
        test_loss, test_top1 = self._evaluate()
        seconds = time.perf_counter() - started
        figures = (train_loss, train_top1, test_loss, test_top1)
        self.history.append(EpochMetrics(epoch + 1, lr, *figures, seconds))
        self._position, self._seconds = 0, 0.0
        return self.history[-1]

    def state(self) -> dict[str, Any]:
        """All that a resumed training needs, as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.step.optimizer.state_dict(),
            "random": self._random_state(),
            "position": self._position,
            "seconds": self._seconds,
            "tally": self._tally.sums,
            "history": [asdict(metrics) for metrics in self.history],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave, on this or another device."""
        self.model.load_state_dict(state["model"])
        self.step.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"]["cpu"])
        if self.device.type == "cuda" and "cuda" in state["random"]:
            torch.cuda.set_rng_state(state["random"]["cuda"], self.device)
        self._position, self._seconds = state["position"], state["seconds"]
        self._tally = Tally(self.device)
        self._tally.sums += state["tally"].to(self.device)
        self.history = [EpochMetrics(**entry) for entry in state["history"]]

    def _random_state(self) -> dict[str, torch.Tensor]:
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        return states

    def _batches(self, epoch: int) -> Iterator[Batch]:
        return self.data.training_batches(
            self.spec.recipe.batch_size,
            generator(self.seed, "order", epoch),
            generator(self.seed, "variation", epoch),
            start=self._position,
        )

    def _check(self, loss: torch.Tensor, epoch: int) -> None:
        every = CHECK_EVERY.get(self.device.type, CHECK_EVERY_ON_GPU)
        if self._position % every and self._position != self.steps_per_epoch:
            return
        summed, last = self._tally.sums[0].item(), loss.item()
        if not math.isfinite(summed):
            raise Diverged(epoch + 1, self._position, last)

    def _check_weights(self, epoch: int) -> None:
        finite = [parameter.isfinite().all() for parameter in self.model.parameters()]
        if not torch.stack(finite).all():
            raise Diverged(epoch + 1, self._position, float("nan"))

    def _evaluate(self) -> tuple[float, float]:
        self.model.eval()
        tally = Tally(self.device)
        for images, labels in self.data.test_batches(TEST_BATCH):
            loss, logits = self.step.evaluate(images, labels)
            tally.add(loss, logits, labels)
        return tally.read()
