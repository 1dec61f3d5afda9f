"""One training step, as the paper's formulas have it: forward, loss, backward, SGD."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from dia_repro.experiments.spec import RecipeSpec
from dia_repro.models.network import StagedNetwork
from dia_repro.training.numerics import numerics


class TrainingStep:
    """Cross entropy and SGD with momentum; no Nesterov, weight decay on every parameter.

    Args:
        model: the network, on its device.
        recipe: momentum and weight decay; the rate is set epoch by epoch.
        precision: arithmetic, as in a spec.
        device: where the network is.
    """

    def __init__(
        self, model: nn.Module, recipe: RecipeSpec, precision: str, device: torch.device
    ) -> None:
        self.model, self.precision, self.device = model, precision, device
        if device.type == "cpu" and isinstance(model, StagedNetwork):
            model.use_fast()
        self.optimizer = torch.optim.SGD(
            model.parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            fused=device.type != "meta",
        )

    def set_rate(self, lr: float) -> None:
        """The learning rate of the steps that follow."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def train(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Move the weights once.

        Args:
            images: (B, 3, H, W), normalised.
            labels: (B,).

        Returns:
            The mean loss () before the move and the logits (B, classes), both detached.
        """
        with numerics(self.precision, self.device):
            logits = self.model(images)
            loss = functional.cross_entropy(logits, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach(), logits.detach()

    @torch.no_grad()
    def evaluate(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss () and logits (B, classes) of a network in evaluation mode."""
        with numerics(self.precision, self.device):
            logits = self.model(images)
            return functional.cross_entropy(logits, labels), logits
