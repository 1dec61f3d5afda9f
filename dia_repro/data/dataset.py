"""Data sets as sources give them: decoded, or on disk to be decoded image by image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol, Self

import numpy as np

if TYPE_CHECKING:  # torch takes long to load, and sources are imported by quick commands
    from torch import Tensor

Batch = tuple["Tensor", "Tensor"]
Colour = tuple[float, float, float]
OnWait = Callable[[], object]
Tested = Literal["validation", "test"]
SplitName = Literal["train", "validation", "test"]
WHOLE = slice(None)  # the part of a batch that a process makes which shares it with no other
# The shorter side before the centre crop, as a multiple of the crop's: 256 for 224.
RESIZE_RATIO = 256 / 224


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

    def at(self, indices: np.ndarray) -> Images:
        """Return some of the images."""
        return Images(self.pixels[indices], self.labels[indices])


@dataclass(frozen=True)
class Dataset:
    """Decoded data set with its fixed split.

    Attributes:
        name: `data.dataset` of a spec.
        mean, std: of each channel, of pixels scaled to [0, 1].
        validation: training images that were held out, if any.
    """

    name: str
    train: Images
    test: Images
    mean: Colour
    std: Colour
    validation: Images | None = None

    def with_validation(self, count: int) -> Dataset:
        """Return it with a number of training images held out."""
        kept, held_out = _split(len(self.train), count)
        return replace(self, train=self.train.at(kept), validation=self.train.at(held_out))

    def digest(self) -> str:
        """Return the SHA-256 of all pixels and labels, which provenance records."""
        digest = hashlib.sha256()
        for split in filter(None, (self.train, self.validation, self.test)):
            for tensor in (split.pixels, split.labels):
                digest.update(str(tuple(tensor.shape)).encode())
                digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()


def as_images(pixels: Tensor, labels: Tensor) -> Images:
    """Return a split of uint8 pixels (N, 3, H, W) and labels (N,), which become int64."""
    return Images(pixels.contiguous(), labels.long())


class Split(Protocol):
    """Images that stay on disk; copied into processes that decode."""

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """Return the bytes of an image's file.

        Raises:
            DataError: it has changed since the run was asked for.
            OSError, UnfitImageError: it cannot be read.
        """

    def describe(self, index: int) -> str:
        """Return an image's name, for messages."""

    def at(self, indices: np.ndarray) -> Self:
        """Return some of the images."""


@dataclass(frozen=True)
class StreamedDataset:
    """Data set that stays on disk.

    Attributes:
        name: `data.dataset` of a spec.
        image_size: side of what the network sees, in pixels.
        content_hash: SHA-256 over the names and bytes of all images.
        classes: names of the classes, by label.
        upright: whether images are turned as their EXIF data say.
        packed: whether they were reduced and compressed again, once for all.
        validation: training images that were held out, if any.
    """

    name: str
    train: Split
    test: Split
    image_size: int
    content_hash: str
    classes: tuple[str, ...] = ()
    upright: bool = True
    packed: bool = False
    validation: Split | None = None

    def with_validation(self, count: int) -> StreamedDataset:
        """Return it with a number of training images held out."""
        kept, held_out = _split(len(self.train), count)
        return replace(self, train=self.train.at(kept), validation=self.train.at(held_out))

    def split(self, name: SplitName) -> Split:
        """Return a part of the data.

        Raises:
            ValueError: no images are held out for validation.
        """
        found: Split | None = getattr(self, name)
        if found is None:
            raise ValueError(f"{self.name} has no {name} images")
        return found

    def with_test_images(self, indices: np.ndarray) -> StreamedDataset:
        """Return it with some of its test images only."""
        return replace(self, test=self.test.at(indices))

    def digest(self) -> str:
        """Return the hash that provenance records."""
        return self.content_hash


AnyDataset = Dataset | StreamedDataset


def _split(images: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the training images that stay, and of those held out, in order.

    They are the same for every network and seed. NumPy keeps the legacy generator's draws for good.
    """
    shuffled = np.random.RandomState(0).permutation(images)
    return np.sort(shuffled[count:]), np.sort(shuffled[:count])
