"""One training step: forward, loss, backward, SGD; one operation at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.sgd import sgd

from dia_repro.experiments.spec import RecipeSpec
from dia_repro.models.network import StagedNetwork
from dia_repro.training.metrics import Tally
from dia_repro.training.numerics import numerics


class TrainingStep:
    """Cross entropy and SGD with momentum; no Nesterov, weight decay on all trained parameters.

    Nothing in a step waits for the device: its sums are read from `tally` when wanted.

    Args:
        model: the network, on `device`.
        recipe: momentum and weight decay; the rate is set epoch by epoch.
        plain: compute by definition, operation by operation; otherwise blocks use
            `dia_repro.models.fast`, with the same results but for rounding.

    Attributes:
        tally: sums over the batches since it was cleared.
        reduction: reduction of the loss over a batch.
        how: execution mode, with the reason where it is not the fastest; empty while unknown.
    """

    reduction = "mean"

    def __init__(
        self,
        model: nn.Module,
        recipe: RecipeSpec,
        precision: str,
        device: torch.device,
        *,
        plain: bool = False,
    ) -> None:
        self.model, self.precision, self.device = model, precision, device
        self.how = "plain" if plain else "eager"
        if isinstance(model, StagedNetwork):
            model.use_fast(not plain)
        self.tally = Tally(device)
        self._parameters: list[Tensor] = [
            weight for weight in model.parameters() if weight.requires_grad
        ]
        # From the beginning, so that the first step is like all others: 0 · momentum + gradient.
        self.momentum = [torch.zeros_like(each) for each in self._parameters]
        self._momentum, self._decay = recipe.momentum, recipe.weight_decay
        self._rate: float | Tensor = recipe.lr
        if device.type == "cuda":  # a number frozen into a captured graph could not be changed
            self._rate = torch.tensor(recipe.lr, device=device)
        self._fused = device.type in ("cpu", "cuda")
        self._criterion: Callable[..., Tensor] = functional.cross_entropy
        self._count: Callable[[Tensor, Tensor, Tensor], None] = self.tally.add

    def use_compiled(self, compiled: bool = True, **options: Any) -> None:
        """Send the network, the loss and the metrics through torch's compiler, or not.

        Args:
            options: for `torch.compile`.
        """
        self._criterion, self._count = functional.cross_entropy, self.tally.add
        if isinstance(self.model, StagedNetwork):
            self.model.use_compiled(compiled, **options)
            if compiled:
                whole = partial(torch.compile, dynamic=False, fullgraph=True, **options)
                self._criterion, self._count = whole(self._criterion), whole(self._count)

    def set_rate(self, lr: float) -> None:
        """Set the learning rate of the following steps."""
        if isinstance(self._rate, Tensor):
            self._rate.fill_(lr)
        else:
            self._rate = lr

    def load_momentum(self, momentum: Sequence[Tensor]) -> None:
        """Restore the optimizer's state from `momentum`."""
        for own, given in zip(self.momentum, momentum, strict=True):
            own.copy_(given)

    def train(self, images: Tensor, labels: Tensor) -> None:
        """Update the weights once, and count the batch in `tally` as it was before the update.

        Args:
            images: (B, 3, H, W), normalised.
            labels: (B,).
        """
        self.train_eagerly(images, labels)

    def train_eagerly(self, images: Tensor, labels: Tensor) -> None:
        """Do what `train` does, one operation at a time in any case: hooks are called."""
        loss, logits = self._loss(images, labels)
        self._forget_gradients()
        loss.backward()
        self._update()
        self._count(loss, logits, labels)

    def _loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss () and the logits (B, classes)."""
        with numerics(self.precision, self.device):
            logits = self.model(images)
            return self._criterion(logits, labels, reduction=self.reduction), logits

    def _forget_gradients(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def _update(self) -> None:
        # The function of torch's optimizer: the optimizer itself imports torch's compiler, which
        # takes longer than all else that a process does before it trains.
        # A user's unit may have parameters that it does not use: as in torch's optimizer they stay.
        used = [n for n, parameter in enumerate(self._parameters) if parameter.grad is not None]
        sgd(
            [self._parameters[n] for n in used],
            [self._parameters[n].grad for n in used],  # type: ignore[misc]
            [self.momentum[n] for n in used],
            fused=self._fused,
            foreach=not self._fused,
            weight_decay=self._decay,
            momentum=self._momentum,
            lr=self._rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )

    @torch.no_grad()
    def evaluate(self, images: Tensor, labels: Tensor) -> None:
        """Count a batch in `tally`; the network is in evaluation mode."""
        loss, logits = self._loss(images, labels)
        self.tally.add(loss, logits, labels)


def to_device(model: StagedNetwork, device: torch.device) -> StagedNetwork:
    """Put a network on a device, its weights in the layout that is fast there.

    Images are channels last everywhere. Convolutions on a CPU would copy weights of that layout at
    every step.
    """
    if device.type == "cuda":
        moved: StagedNetwork = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return moved
    return model.to(device)
