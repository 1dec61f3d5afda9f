"""What every source of images gives: uint8 images, labels, and how to normalise them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from dia_repro.errors import AbsentError


class DataError(AbsentError):
    """A data set is missing, damaged or not the one it should be."""


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
