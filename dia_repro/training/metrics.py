"""What one epoch comes to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class EpochMetrics:
    """The figures of one epoch.

    Attributes:
        epoch: counted from 1.
        lr: learning rate during the epoch.
        train_loss, test_loss: mean cross entropy over images, in nats; the training figures
            are those seen while the weights moved.
        train_top1, test_top1: accuracy in per cent, over whole sets.
        seconds: wall time, evaluation included.
    """

    epoch: int
    lr: float
    train_loss: float
    train_top1: float
    test_loss: float
    test_top1: float
    seconds: float


class Tally:
    """Sums of loss and of correct answers, kept on the device until they are read."""

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(3, dtype=torch.float64, device=device)

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Count a batch: its mean loss (), logits (B, classes) and labels (B,)."""
        correct = (logits.argmax(1) == labels).sum()
        count = torch.full_like(loss, len(labels))
        self.sums += torch.stack((loss * count, correct.to(loss.dtype), count)).to(torch.float64)

    def read(self) -> tuple[float, float]:
        """Mean loss, and accuracy in per cent."""
        loss, correct, count = self.sums.tolist()
        return loss / count, 100.0 * correct / count
