"""What every source of images gives: uint8 images, labels, and how to normalise them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dia_repro.errors import AbsentError

Batch = tuple[Tensor, Tensor]
OnWait = Callable[[], object]
OnProgress = Callable[[int, int], object]  # of images done, and images in all
# Of a batch that no other process shares.
WHOLE = slice(None)


class DataError(AbsentError):
    """A data set is missing, damaged or not the one it should be."""


def go_on() -> None:
    """Do nothing while images are waited for."""


@dataclass(frozen=True)
class Images:
    """One split.

    Attributes:
        pixels: (N, 3, H, W) uint8.
        labels: (N,) int64.
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A data set with its fixed split.

    Attributes:
        name: as in a spec's `data.dataset`.
        mean, std: per channel, of pixels scaled to [0, 1].
    """

    name: str
    train: Images
    test: Images
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def training_images(self) -> int:
        """How many."""
        return len(self.train)

    @property
    def test_images(self) -> int:
        """How many."""
        return len(self.test)

    def digest(self) -> str:
        """SHA-256 over all pixels and labels: what provenance records as the data's hash."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            for tensor in (split.pixels, split.labels):
                digest.update(str(tuple(tensor.shape)).encode())
                digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()


def as_images(pixels: Tensor, labels: Tensor) -> Images:
    """A split of uint8 pixels (N, 3, H, W) and labels (N,), which become int64."""
    return Images(pixels.contiguous(), labels.to(torch.int64))


class Normalisation:
    """(x / 255 - mean) / std as one multiplication and one addition for each pixel.

    Args:
        mean, std: per channel, of pixels scaled to [0, 1].
    """

    def __init__(
        self,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        device: torch.device,
    ) -> None:
        deviation = torch.tensor(std, device=device).view(1, 3, 1, 1)
        centre = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self.scale, self.shift = 1 / (255 * deviation), -centre / deviation

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 → float32, channels last."""
        floats = pixels.to(torch.float32, memory_format=torch.channels_last)
        return floats.mul_(self.scale).add_(self.shift)
