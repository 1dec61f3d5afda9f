"""Metrics of an epoch, and the sums that they are computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor


@dataclass(frozen=True)
class EpochMetrics:
    """The metrics of one epoch.

    Attributes:
        epoch: number of the epoch, from 1.
        train_loss, test_loss: mean cross entropy over images, in nats; metrics of the training
            set are those seen while the weights moved.
        train_top1, test_top1: accuracy in per cent, over whole sets.
        seconds: wall time, evaluation included.
        validation_loss, validation_top1: the same of the images held out for validation; None
            where there are none. Where there are some, the test set is read once: the last epoch
            alone has test metrics, those of the network of the epoch `chosen_epoch`.
    """

    epoch: int
    lr: float
    train_loss: float
    train_top1: float
    test_loss: float | None
    test_top1: float | None
    seconds: float
    validation_loss: float | None = None
    validation_top1: float | None = None

    @property
    def chooses(self) -> float | None:
        """The accuracy that chooses a run's epoch: on validation images if there are any."""
        return self.test_top1 if self.validation_top1 is None else self.validation_top1


def chosen_epoch(history: Sequence[EpochMetrics]) -> int | None:
    """Return the first epoch with the highest accuracy that chooses; None before the first."""
    known = [
        (epoch.chooses, -epoch.epoch)
        for epoch in history
        if epoch.chooses is not None and isfinite(epoch.chooses)
    ]
    return -max(known)[1] if known else None


@dataclass(frozen=True)
class Sums:
    """Values of a `Tally`, read from the device.

    Attributes:
        loss: mean over images, in nats.
        top1: accuracy in per cent.
        diverged_at: first batch with a non-finite loss, counted from 1; None without one.
        diverged_loss: loss of that batch.
    """

    loss: float
    top1: float
    diverged_at: int | None
    diverged_loss: float

    @classmethod
    def of(cls, sums: Sequence[float]) -> Sums:
        """Return the values that `Tally.sums`, as a list, stand for."""
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
            total, correct, images: sum of the loss, number of correct answers and of images.
            loss: mean loss, by default the total's.
        """
        loss = total / images if loss is None else loss
        first = ~loss.isfinite() & (self.sums[4] == 0)
        batch = torch.ones_like(loss)
        diverged = torch.where(first, self.sums[3] + 1, 0)
        its_loss = torch.where(first, loss, 0)
        self.sums += torch.stack((total, correct, images, batch, diverged, its_loss))

    def clear(self) -> None:
        """Set all sums to 0."""
        self.sums.zero_()

    def read(self) -> Sums:
        """Wait for the device, and return its sums."""
        return Sums.of(self.sums.tolist())
