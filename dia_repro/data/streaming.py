"""Batches of images that stay on disk, decoded by worker processes as training needs them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dia_repro.data.augmentation import Normalisation
from dia_repro.data.dataset import (
    WHOLE,
    Batch,
    OnWait,
    SplitName,
    StreamedDataset,
    Tested,
    go_on,
)

if TYPE_CHECKING:
    from dia_repro.data.decoding import Wanted
    from dia_repro.data.workers import DecodingWorkers, Part

# Of ImageNet's training images, pixels scaled to [0, 1]; customary for other images, too.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
PART = 32  # images that a worker decodes at a time


class StreamedData:
    """Normalised float batches from images on disk; the same whatever the number of workers.

    Workers are started once and serve training and test images of all epochs. Each decodes a part
    of a batch at a time: the first batch of an epoch is there when all of them have decoded a few
    images, not when one of them has decoded all of its batch.

    Args:
        augmentation: `resized-crop-flip` or `none`.
        device: device of the batches.
        workers: processes that decode; 0 decodes in this one.
        part: images of each batch that are made.
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
        self._workers: DecodingWorkers | None = None
        self._turn = 0

    def training_batches(
        self,
        batch_size: int,
        order: torch.Generator,
        variation: torch.Generator,
        start: int = 0,
        on_wait: OnWait = go_on,
    ) -> Iterator[Batch]:
        """Yield one epoch, as `ResidentData.training_batches` gives it.

        Args:
            on_wait: called several times a second while images are waited for; may raise.

        Raises:
            DataError: an image has changed, or cannot be decoded any more.
            RuntimeError: other batches were begun meanwhile.
        """
        count = len(self.dataset.train)
        left = torch.randperm(count, generator=order)[start * batch_size :]
        seeds = torch.randint(2**62, (count,), generator=variation) if self.augment else None
        yield from self._batches(left, seeds, batch_size, on_wait, "train")

    def test_batches(
        self, batch_size: int, on_wait: OnWait = go_on, of: Tested = "test"
    ) -> Iterator[Batch]:
        """Yield every test image, or those held out for validation, once, the crop in its middle.

        Raises:
            DataError, RuntimeError: as `training_batches`.
        """
        order = torch.arange(len(self.dataset.split(of)))
        yield from self._batches(order, None, batch_size, on_wait, of)

    def _batches(
        self,
        order: Tensor,
        seeds: Tensor | None,
        batch_size: int,
        on_wait: OnWait,
        of: SplitName,
    ) -> Iterator[Batch]:
        self._turn = turn = self._turn + 1
        batches = [batch[self.part] for batch in order.split(batch_size)] if len(order) else []
        parts = self._decoded(_wanted(batches, seeds, of), on_wait)
        side = self.dataset.image_size
        pinned = self.device.type == "cuda"  # so that the GPU does not wait for the copy
        for batch in batches:
            pixels = torch.empty((len(batch), side, side, 3), dtype=torch.uint8, pin_memory=pinned)
            labels = torch.empty(len(batch), dtype=torch.int64, pin_memory=pinned)
            for first in range(0, len(batch), PART):
                images, its_labels = next(parts)
                index = slice(first, first + PART)
                pixels[index].copy_(torch.from_numpy(images))
                labels[index] = torch.tensor(its_labels)
            shown = pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
            yield self.normalise(shown), labels.to(self.device, non_blocking=True)
            if self._turn != turn:  # the workers are at something else
                raise RuntimeError("batches of one data set are made one after the other")

    def _decoded(self, wanted: Iterable[list[Wanted]], on_wait: OnWait) -> Iterator[Part]:
        """Yield parts of batches: by workers, which live as long as this, or in this process."""
        from dia_repro.data.decoding import Decoded  # brings torchvision
        from dia_repro.data.workers import DecodingWorkers, decode_part

        decoded = Decoded(self.dataset)
        if self.workers:
            if self._workers is None:
                self._workers = DecodingWorkers(decoded, self.workers, PART)
            yield from self._workers.parts(wanted, on_wait)
            return
        for part in wanted:
            pixels = np.empty((len(part), decoded.size, decoded.size, 3), np.uint8)
            yield pixels, decode_part(decoded, part, pixels)


def _wanted(
    batches: Sequence[Tensor], seeds: Tensor | None, of: SplitName
) -> Iterator[list[Wanted]]:
    """Yield parts of batches, none of which reaches into the next one, and the images' seeds."""
    from dia_repro.data.decoding import Wanted

    for batch in batches:
        for part in batch.split(PART) if len(batch) else ():
            drawn = [None] * len(part) if seeds is None else seeds[part].tolist()
            yield [
                Wanted(of, index, seed) for index, seed in zip(part.tolist(), drawn, strict=True)
            ]
