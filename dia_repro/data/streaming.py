"""Images too many or too large to be held: decoded by worker processes as training needs them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from dia_repro.data.dataset import WHOLE, Batch, DataError, Normalisation

if TYPE_CHECKING:
    from dia_repro.data.decoding import Wanted
    from dia_repro.data.folder import ImageFolder
    from dia_repro.data.packed import Pack

# Of training images, pixels scaled to [0, 1]: customary for ImageNet.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# The shorter side before the centre crop, as a multiple of the crop's: 256 for 224.
RESIZE_RATIO = 256 / 224
PART = 32  # images that a worker decodes at a time
PREFETCHED = 24  # parts under way or waiting, at least: three of ImageNet's batches


@dataclass(frozen=True)
class StreamedDataset:
    """A data set that stays on disk.

    Attributes:
        name: as in a spec's `data.dataset`.
        files: its images.
        image_size: side of what the network sees, in pixels.
        content_hash: of all images.
        upright: whether images in files of their own are turned as their EXIF data say.
    """

    name: str
    files: ImageFolder | Pack
    image_size: int
    content_hash: str
    upright: bool = True

    @property
    def training_images(self) -> int:
        """How many."""
        return len(self.files.train)

    @property
    def test_images(self) -> int:
        """How many."""
        return len(self.files.test)

    def with_test_images(self, places: np.ndarray) -> StreamedDataset:
        """It with some of its test images only."""
        # A field of the same name in both kinds of files.
        return replace(self, files=replace(self.files, test=self.files.test.at(places)))  # type: ignore[arg-type]

    def digest(self) -> str:
        """SHA-256 over the names and bytes of all images."""
        return self.content_hash


class StreamedData:
    """Normalised float batches from images on disk; the same whatever the number of workers.

    Workers are started once and serve training and test images of all epochs. Each decodes a part
    of a batch at a time: the first batch of an epoch is there when all of them have decoded a few
    images, not when one of them has decoded all of its batch.

    Args:
        dataset: the data set.
        augmentation: `resized-crop-flip` or `none`.
        device: where batches are made.
        workers: processes that decode; 0 decodes in this one.
        part: of each batch, which of its images are made.
    """

    def __init__(
        self,
        dataset: StreamedDataset,
        augmentation: str,
        device: torch.device,
        workers: int,
        part: slice = WHOLE,
    ) -> None:
        self.dataset, self.device, self.workers, self.part = dataset, device, workers, part
        self.augment = augmentation == "resized-crop-flip"
        self.normalise = Normalisation(MEAN, STD, device)
        self._parts = _Parts(part)
        self._loader: DataLoader[Any] | None = None
        self._turn = 0

    def training_batches(
        self,
        batch_size: int,
        order: torch.Generator,
        variation: torch.Generator,
        start: int = 0,
    ) -> Iterator[Batch]:
        """One epoch, as `ResidentData.training_batches` gives it.

        Raises:
            DataError: an image cannot be decoded any more.
            RuntimeError: other batches were begun meanwhile.
        """
        count = self.dataset.training_images
        permutation = torch.randperm(count, generator=order)
        seeds = torch.randint(2**62, (count,), generator=variation)
        left = permutation[start * batch_size :]
        yield from self._batches(left, seeds if self.augment else None, batch_size, training=True)

    def test_batches(self, batch_size: int) -> Iterator[Batch]:
        """Every test image once, the crop in its middle.

        Raises:
            DataError: an image cannot be decoded any more.
            RuntimeError: other batches were begun meanwhile.
        """
        order = torch.arange(self.dataset.test_images)
        yield from self._batches(order, None, batch_size, training=False)

    def _batches(
        self, order: Tensor, seeds: Tensor | None, batch_size: int, *, training: bool
    ) -> Iterator[Batch]:
        from dia_repro.data.decoding import Unreadable  # brings torchvision

        source = self.dataset.files
        self._turn = turn = self._turn + 1
        self._parts.set(order, seeds, batch_size, training=training)
        parts = iter(self._loading())
        side = self.dataset.image_size
        for first in range(0, len(order), batch_size):
            size = len(order[first : first + batch_size][self.part])
            shape = (size, 3, side, side)
            layout = torch.channels_last
            pixels = torch.empty(shape, dtype=torch.uint8, device=self.device, memory_format=layout)
            labels = torch.empty(size, dtype=torch.int64, device=self.device)
            filled = 0
            while filled < size:
                part = next(parts)
                if isinstance(part, Unreadable):
                    raise DataError(part.reason)
                place = slice(filled, filled + len(part[1]))
                pixels[place].copy_(part[0], non_blocking=True)
                labels[place].copy_(part[1], non_blocking=True)
                filled = place.stop
            yield self.normalise(pixels), labels
            if self._turn != turn:  # the workers are at something else
                raise RuntimeError("batches of one data set are made one after the other")
        source.check_unchanged()

    def _loading(self) -> DataLoader[Any]:
        """Workers, started with the first batch; they live as long as this."""
        if self._loader is None:
            from dia_repro.data.decoding import Decoded, collate

            source = self.dataset
            forked = self.workers and sys.platform == "linux"
            self._loader = DataLoader(
                Decoded(source.files, source.image_size, upright=source.upright),
                batch_sampler=self._parts,
                collate_fn=collate,
                num_workers=self.workers,
                persistent_workers=self.workers > 0,
                prefetch_factor=max(2, -(-PREFETCHED // self.workers)) if self.workers else None,
                # Forked, they have this process's signal handlers and end when it does; where it
                # was itself forked by a server, torch would start another server for them.
                multiprocessing_context="fork" if forked else None,
                pin_memory=self.device.type == "cuda",
                # Not torch's global state, which belongs to dropout: a resumed epoch would differ.
                generator=torch.Generator(),
            )
        return self._loader


class _Parts(Sampler[list["Wanted"]]):
    """What workers are given: parts of batches, none of which reaches into the next one.

    Args:
        part: of each batch, the images that are this process's.
    """

    def __init__(self, part: slice) -> None:
        self.part = part
        self.order = torch.arange(0)
        self.seeds: Tensor | None = None
        self.batch_size, self.training = 1, True

    def set(self, order: Tensor, seeds: Tensor | None, batch_size: int, *, training: bool) -> None:
        """What the next iteration gives: `order`'s images, each with its seed."""
        self.order, self.seeds = order, seeds
        self.batch_size, self.training = batch_size, training

    def __iter__(self) -> Iterator[list[Wanted]]:
        from dia_repro.data.decoding import Wanted

        # Not as attributes: what is prefetched would go on with another iteration's.
        training, seeds = self.training, self.seeds
        for batch in self.order.split(self.batch_size):
            own = batch[self.part]
            for part in own.split(PART) if len(own) else ():
                drawn = [None] * len(part) if seeds is None else seeds[part].tolist()
                yield [
                    Wanted(training, index, seed)
                    for index, seed in zip(part.tolist(), drawn, strict=True)
                ]
