"""Images too many or too large to be held: decoded by worker processes as training needs them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dia_repro.data.dataset import WHOLE, Batch, DataError, Normalisation

if TYPE_CHECKING:
    from dia_repro.data.folder import Files, ImageFolder

# Of training images, pixels scaled to [0, 1]: customary for ImageNet.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class StreamedDataset:
    """A data set that stays on disk.

    Attributes:
        name: as in a spec's `data.dataset`.
        files: its images.
        image_size: side of what the network sees, in pixels.
        content_hash: of all images.
        upright: whether images are turned as their EXIF data say.
    """

    name: str
    files: ImageFolder
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

    def digest(self) -> str:
        """SHA-256 over the names and bytes of all images."""
        return self.content_hash


class StreamedData:
    """Normalised float batches from images on disk; the same whatever the number of workers.

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

    def training_batches(
        self,
        batch_size: int,
        order: torch.Generator,
        variation: torch.Generator,
        start: int = 0,
    ) -> Iterator[Batch]:
        """One epoch, as `ResidentData.training_batches` gives it."""
        count = self.dataset.training_images
        permutation = torch.randperm(count, generator=order)
        seeds = torch.randint(2**62, (count,), generator=variation)
        left = permutation[start * batch_size :].tolist()
        files = self.dataset.files.train
        yield from self._batches(files, seeds if self.augment else None, left, batch_size)

    def test_batches(self, batch_size: int) -> Iterator[Batch]:
        """Every test image once, the crop in its middle."""
        files = self.dataset.files.test
        yield from self._batches(files, None, range(self.dataset.test_images), batch_size)

    def _batches(
        self, files: Files, seeds: Tensor | None, order: Sequence[int], batch_size: int
    ) -> Iterator[Batch]:
        from dia_repro.data.decoding import Decoded, Unreadable, collate  # brings torchvision

        on_gpu = self.device.type == "cuda"
        source = self.dataset
        loader = DataLoader(
            Decoded(source.files.root, files, source.image_size, seeds, upright=source.upright),
            batch_sampler=[
                list(order[first : first + batch_size][self.part])
                for first in range(0, len(order), batch_size)
            ],
            collate_fn=partial(collate, size=source.image_size),
            num_workers=self.workers,
            # Forked, they have this process's signal handlers and end when it does; where it was
            # itself forked by a server, torch would start another server for them.
            multiprocessing_context="fork" if self.workers and sys.platform == "linux" else None,
            pin_memory=on_gpu,
            # Not torch's global state, which belongs to dropout: a resumed epoch would differ.
            generator=torch.Generator(),
        )
        for batch in loader:
            if isinstance(batch, Unreadable):
                raise DataError(batch.reason)
            pixels, labels = batch
            yield (
                self.normalise(pixels.to(self.device, non_blocking=on_gpu)),
                labels.to(self.device, non_blocking=on_gpu),
            )
