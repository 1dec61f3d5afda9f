"""Training of one spec with one seed, epoch by epoch, resumable at any batch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from dia_repro.data.batches import batches_of, check_batches
from dia_repro.data.dataset import AnyDataset, Batch, OnWait, Tested, go_on
from dia_repro.experiments.own_options import OwnOptions
from dia_repro.experiments.spec import Spec
from dia_repro.models import count_parameters, from_spec
from dia_repro.training import seeding
from dia_repro.training.captured import fast_step
from dia_repro.training.distributed import ALONE, Group, SharedStep, check_group
from dia_repro.training.gradients import Record, recorded
from dia_repro.training.metrics import EpochMetrics, Sums
from dia_repro.training.numerics import check_precision
from dia_repro.training.own_state import check_storable, registered
from dia_repro.training.step import TrainingStep, to_device

TEST_BATCH = 512
# Reading from a GPU stalls it: there a divergence is noticed at the end of the epoch, or in
# ImageNet's long epochs after this number of steps.
LOOK_EVERY = 1000


class Diverged(Exception):  # noqa: N818 - an outcome of training, not an error
    """The loss, or a weight at the end of an epoch, is no longer finite.

    Attributes:
        epoch: number of the epoch, from 1.
        step: number of the step in that epoch, from 1.
        loss: loss of that step (nan or inf; nan if a weight was not finite).
    """

    def __init__(self, epoch: int, step: int, loss: float) -> None:
        super().__init__(f"loss {loss} at step {step} of epoch {epoch}")
        self.epoch, self.step, self.loss = epoch, step, loss


class Stopped(Exception):  # noqa: N818 - asked for, not an error
    """Training was asked to stop; the trainer's state can be saved."""


class Evaluated(NamedTuple):
    """Sums at the end of an epoch, with what the spec evaluates then.

    Attributes:
        trained: of the epoch's training, while the weights moved.
        validated: of the images held out for validation; None where there are none.
        tested: of the test set; None before the last epoch where images are held out.
    """

    trained: Sums
    validated: Sums | None
    tested: Sums | None


class Trainer:
    """Training of one network; it does not know where results go.

    Args:
        dataset: the data that the spec names.
        workers: number of processes that decode images, where the data set is not held decoded.
        group: the processes that share the run; all of them call the same methods.

    Attributes:
        history: metrics of the epochs that are done.
        gradients: for a network without skips, what `training.gradients` recorded of each stage,
            by the number of epochs that were done then.
        position: number of steps done in the epoch under way.
        chosen: weights and statistics of the epoch that did best on the images held out for
            validation so far; empty where there are none.
        parameters: #P of the network.
    """

    def __init__(
        self,
        spec: Spec,
        seed: int,
        dataset: AnyDataset,
        device: torch.device,
        workers: int = 0,
        group: Group = ALONE,
    ) -> None:
        check_precision(spec.precision, device)
        check_group(spec, group)
        self.group = group
        check_batches(spec, len(dataset.train))
        self.spec, self.seed, self.device = spec, seed, device
        with seeding.global_seed(seed, "weights"):
            model = from_spec(spec.model, spec.data.classes)
        self.model = to_device(model, device)
        own = isinstance(spec.model.attention, OwnOptions)
        self._registered = registered(model) if own else None
        self._check_own_state()
        self.parameters = count_parameters(model)
        self.data = batches_of(dataset, spec.data.augmentation, device, workers, group.part)
        self.steps_per_epoch = math.ceil(len(dataset.train) / spec.recipe.batch_size)
        arithmetic = (spec.recipe, spec.precision, device)
        if group.size > 1:
            self.step: TrainingStep = SharedStep(
                self.model, *arithmetic, group, spec.model.attention
            )
        else:
            steps = spec.recipe.epochs * self.steps_per_epoch
            self.step = fast_step(self.model, *arithmetic, steps)
        self.history: list[EpochMetrics] = []
        self.gradients: dict[int, list[Record]] = {}
        self.chosen: dict[str, Tensor] = {}
        self.position = 0
        self._seconds = 0.0

    @property
    def finished(self) -> bool:
        """True if every epoch of the recipe is done."""
        return len(self.history) >= self.spec.recipe.epochs

    def run_epoch(self, on_step: Callable[[int], bool] | None = None) -> EpochMetrics:
        """Train to the end of the epoch under way, then evaluate on the whole test set.

        Where images are held out for validation, evaluate on those, and after the last epoch on
        the test set with the weights of the epoch that did best on them.

        Args:
            on_step: called with the steps done in this epoch; True asks to stop.

        Raises:
            Diverged: a loss was not finite; on a GPU it is noticed at the end of the epoch.
            Stopped: `on_step` asked for it.
        """
        started = time.perf_counter() - self._seconds
        epoch = len(self.history)
        lr = self.spec.recipe.rate_in(epoch)
        self.step.set_rate(lr)
        if self.position == 0:
            self.begin_epoch(epoch)
        self.model.train()

        def look_up() -> None:
            if on_step is not None and on_step(self.position):
                self._seconds = time.perf_counter() - started
                raise Stopped

        for images, labels in self.batches(epoch, look_up):
            self.train(images, labels)
            look_up()
        trained, validated, tested = self.evaluate(look_up)
        seconds = time.perf_counter() - started
        self.history.append(
            EpochMetrics(
                epoch=epoch + 1,
                lr=lr,
                train_loss=trained.loss,
                train_top1=trained.top1,
                test_loss=tested.loss if tested else None,
                test_top1=tested.top1 if tested else None,
                seconds=seconds,
                validation_loss=validated.loss if validated else None,
                validation_top1=validated.top1 if validated else None,
            )
        )
        self.position, self._seconds = 0, 0.0
        return self.history[-1]

    def state(self) -> dict[str, Any]:
        """Return what a resumed training needs, as tensors and plain values.

        Raises:
            UnstorableStateError: an own attention has state that could not be restored.
        """
        self._check_own_state()
        return {
            "model": self.model.state_dict(),
            "momentum": self.step.momentum,
            "random": seeding.random_state(self.device),
            "position": self.position,
            "seconds": self._seconds,
            "tally": self.step.tally.sums,
            "history": [asdict(metrics) for metrics in self.history],
            "gradients": self.gradients,
            "chosen": self.chosen,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned, on this or another device."""
        self.model.load_state_dict(state["model"])
        self.step.load_momentum(state["momentum"])
        seeding.restore_random_state(state["random"], self.device)
        self.position, self._seconds = state["position"], state["seconds"]
        self.step.tally.sums.copy_(state["tally"])
        self.history = [EpochMetrics(**entry) for entry in state["history"]]
        self.gradients = state.get("gradients", {})  # of an earlier version's checkpoint
        self.chosen = {k: v.to(self.device) for k, v in state.get("chosen", {}).items()}
        if self.group.rank:  # what was saved is the first process's
            self._draw_dropout(len(self.history))

    def begin_epoch(self, epoch: int) -> None:
        """Seed the draws of an epoch, counted from 0, and start its sums."""
        self.position = 0
        self._draw_dropout(epoch)
        self.step.tally.clear()
        self.model.train()

    def _draw_dropout(self, epoch: int) -> None:
        rank, step = self.group.rank, self.position
        others = f" of process {rank} from step {step}" if rank else ""
        seeding.seed_globally(self.seed, f"dropout{others}", epoch)

    def batches(self, epoch: int, on_wait: OnWait = go_on) -> Iterator[Batch]:
        """Yield the batches of an epoch, counted from 0, that are not done: images and labels.

        Args:
            on_wait: called several times a second while images are waited for; may raise.
        """
        return self.data.training_batches(
            self.spec.recipe.batch_size,
            seeding.generator(self.seed, "order", epoch),
            seeding.generator(self.seed, "variation", epoch),
            start=self.position,
            on_wait=on_wait,
        )

    def train(self, images: Tensor, labels: Tensor) -> None:
        """Make one step.

        Raises:
            Diverged: a loss was not finite; on a GPU it is looked for only now and then.
            UnstorableStateError: after an epoch's first step; see `state`.
        """
        if self.position == 0 and not self.spec.model.skip:
            with recorded(list(self.model.stages)) as records:
                self.step.train_eagerly(images, labels)
            self.gradients[len(self.history)] = records
        else:
            self.step.train(images, labels)
        self.position += 1
        if self.position == 1:
            self._check_own_state()
        if self.device.type == "cpu" or self.position % LOOK_EVERY == 0:
            self._check(self.step.tally.read())

    @torch.no_grad()
    def evaluate(self, look_up: OnWait = go_on) -> Evaluated:
        """Return the sums of an epoch's training and of what is evaluated at its end.

        Args:
            look_up: called after each batch and while images are waited for.

        Raises:
            Stopped: by `look_up`; the trainer's state is that after the last step, and the random
                numbers that the batches have used will be drawn again.
            Diverged: a loss of the epoch, or a weight, is not finite.
        """
        trained, drawn = self.step.tally.sums.clone(), seeding.random_state(self.device)
        buffers = self.model.buffer_values()  # which a unit may change in evaluation, too
        try:
            if self.spec.data.validation is None:
                sums, tested = self._evaluate("test", trained, look_up)
                return Evaluated(sums, None, tested)
            sums, validated = self._evaluate("validation", trained, look_up)
            return Evaluated(sums, validated, self._choose(validated, look_up))
        except Stopped:
            self.step.tally.sums.copy_(trained)
            self.model.set_buffers(buffers)
            seeding.restore_random_state(drawn, self.device)
            raise

    def _evaluate(self, on: Tested, trained: Tensor, look_up: OnWait) -> tuple[Sums, Sums]:
        """Return the sums of the epoch's training, read from the device, and of some images."""
        # The largest weight by one operation over all of them; it is nan if any weight is nan.
        # Detached, since torch would take Parameters one by one. Sums are read once, all together.
        weights = [weight.detach() for weight in self.model.parameters()]
        finite = get_total_norm(weights, math.inf).isfinite()
        self.model.eval()
        self.step.tally.clear()
        for images, labels in self.data.test_batches(TEST_BATCH, look_up, on):
            self.step.evaluate(images, labels)
            look_up()
        read = torch.cat((trained, self.step.tally.sums, finite[None])).tolist()
        *sums, weights_are_finite = read
        half = len(trained)
        self._check(Sums.of(sums[:half]))
        if not weights_are_finite:
            raise Diverged(len(self.history) + 1, self.position, float("nan"))
        return Sums.of(sums[:half]), Sums.of(sums[half:])

    def _choose(self, validated: Sums, look_up: OnWait) -> Sums | None:
        """Keep the weights of the best epoch; after the last one, test them.

        Raises:
            Stopped: as `evaluate`.
        """
        best = max((epoch.validation_top1 or 0.0 for epoch in self.history), default=-1.0)
        if validated.top1 > best:
            self.chosen = self._weights()
        if len(self.history) + 1 < self.spec.recipe.epochs:
            return None
        last = self._weights()
        self._set_weights(self.chosen)
        try:
            return self._evaluate("test", torch.zeros_like(self.step.tally.sums), look_up)[1]
        finally:
            self._set_weights(last)

    def _weights(self) -> dict[str, Tensor]:
        """Return a copy of weights and statistics."""
        return {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    def _set_weights(self, weights: dict[str, Tensor]) -> None:
        # In place: a captured graph has their addresses.
        buffers = dict(self.model.named_buffers(remove_duplicate=False))
        self.model.set_buffers({name: weights[name] for name in weights if name in buffers})
        for name, tensor in self.model.state_dict().items():
            tensor.copy_(weights[name])

    def _check_own_state(self) -> None:
        if self._registered is not None:
            check_storable(self.model, self._registered)

    def _check(self, sums: Sums) -> None:
        if sums.diverged_at is not None:
            raise Diverged(len(self.history) + 1, sums.diverged_at, sums.diverged_loss)
