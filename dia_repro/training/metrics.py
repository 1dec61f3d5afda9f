"""What one epoch comes to."""

from __future__ import annotations

from collections.abc import Sequence
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


@dataclass(frozen=True)
class Sums:
    """What a `Tally` holds, read.

    Attributes:
        loss: mean over images, in nats.
        top1: accuracy in per cent.
        diverged_at: the batch, counted from 1, whose loss was the first that is not finite; None
            if all were.
        diverged_loss: that loss.
    """

    loss: float
    top1: float
    diverged_at: int | None
    diverged_loss: float

    @classmethod
    def of(cls, sums: Sequence[float]) -> Sums:
        """From `Tally.sums`, read from the device."""
        loss, correct, images, _, diverged, its_loss = sums
        images = images or float("nan")
        return cls(loss / images, 100 * correct / images, int(diverged) or None, its_loss)


class Tally:
    """Sums over batches, kept on the device until they are read; one read waits for the device.

    Attributes:
        sums: loss, correct answers, images, batches, the batch that diverged (0: none) and its
            loss, (6,) float64. Never replaced, only written: a captured graph has its address.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(6, dtype=torch.float64, device=device)

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Count a batch: its mean loss (), logits (B, classes) and labels (B,)."""
        loss = loss.detach().to(torch.float64)
        correct = (logits.detach().argmax(1) == labels).sum()
        images = torch.full_like(loss, len(labels))
        self.count(loss * images, correct, images, loss)

    def count(
        self, total: Tensor, correct: Tensor, images: Tensor, loss: Tensor | None = None
    ) -> None:
        """Count a batch by its sums, all float64 ().

        Args:
            total: loss, added up over images.
            correct: answers.
            images: in the batch.
            loss: their mean, by default the total's.
        """
        loss = total / images if loss is None else loss
        first = ~loss.isfinite() & (self.sums[4] == 0)
        one = torch.ones_like(loss)
        diverged = torch.where(first, self.sums[3] + 1, 0)
        its_loss = torch.where(first, loss, 0)
        self.sums += torch.stack((total, correct, images, one, diverged, its_loss))

    def clear(self) -> None:
        """Start a new epoch."""
        self.sums.zero_()

    def read(self) -> Sums:
        """Wait for the device and say what it has summed up."""
        return Sums.of(self.sums.tolist())
