"""Batches of a data set, whose images are on the device as uint8, or streamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

import torch

from dia_repro.data.augmentation import AUGMENTATIONS, Draw, Normalisation, crop, draw, pad
from dia_repro.data.dataset import (
    WHOLE,
    AnyDataset,
    Batch,
    Dataset,
    Images,
    OnWait,
    StreamedDataset,
    Tested,
    go_on,
)
from dia_repro.data.streaming import StreamedData
from dia_repro.errors import UsageError
from dia_repro.experiments.spec import Spec


def batches_of(
    dataset: AnyDataset,
    augmentation: str,
    device: torch.device,
    workers: int,
    part: slice = WHOLE,
) -> ResidentData | StreamedData:
    """Return the maker of a data set's batches; for the arguments see these classes."""
    match dataset:
        case StreamedDataset():
            return StreamedData(dataset, augmentation, device, workers, part)
        case Dataset():
            return ResidentData(dataset, augmentation, device, part)
        case _:
            assert_never(dataset)


class ResidentData:
    """Normalised float batches of uint8 images on the device; small sets need no processes.

    Args:
        augmentation: a key of `AUGMENTATIONS`.
        device: device of the images and the batches.
        part: images of each batch that are made.
    """

    def __init__(
        self, dataset: Dataset, augmentation: str, device: torch.device, part: slice = WHOLE
    ) -> None:
        self.part = part
        self.augmentation = AUGMENTATIONS[augmentation]
        self.device = device
        self.size = (dataset.train.pixels.shape[2], dataset.train.pixels.shape[3])
        self.padded = pad(dataset.train.pixels.to(device), self.augmentation)
        self.labels = dataset.train.labels.to(device)
        tested = {"test": dataset.test, "validation": dataset.validation}
        self.tested = {
            name: Images(images.pixels.to(device), images.labels.to(device))
            for name, images in tested.items()
            if images is not None
        }
        self.normalise = Normalisation(dataset.mean, dataset.std, device)

    def training_batches(
        self,
        batch_size: int,
        order: torch.Generator,
        variation: torch.Generator,
        start: int = 0,
        on_wait: OnWait = go_on,  # noqa: ARG002 - nothing is waited for
    ) -> Iterator[Batch]:
        """Yield one epoch: every training image once, the last batch smaller where it must be.

        Args:
            batch_size: images a batch.
            order: draws the permutation (a CPU generator: the same on every device).
            variation: draws crops and flips (a CPU generator).
            start: number of batches to leave out at the beginning; those that follow are the
                same as if none had been left out.

        Yields:
            Images (B, 3, H, W) float, channels last, and labels (B,).
        """
        count = len(self.labels)
        permutation = torch.randperm(count, generator=order).to(self.device)
        drawn = draw(self.augmentation, count, variation)
        on_device = Draw(*(t.to(self.device) for t in (drawn.tops, drawn.lefts, drawn.flips)))
        for first in range(start * batch_size, count, batch_size):
            index = permutation[first : first + batch_size][self.part]
            pixels = crop(self.padded, index, on_device, self.size)
            yield self.normalise(pixels), self.labels[index]

    def test_batches(
        self,
        batch_size: int,
        on_wait: OnWait = go_on,  # noqa: ARG002
        of: Tested = "test",
    ) -> Iterator[Batch]:
        """Yield every test image, or those held out for validation, once, without augmentation."""
        images = self.tested[of]
        for first in range(0, len(images), batch_size):
            chosen = slice(first, first + batch_size)
            pixels, labels = images.pixels[chosen], images.labels[chosen]
            yield self.normalise(pixels[self.part]), labels[self.part]


class LonelyImageError(UsageError):
    """A batch has one image, and the last feature map one pixel, of which BN cannot be trained."""


def check_batches(spec: Spec, training_images: int) -> None:
    """Check that every training batch gives BN more than one value for each channel.

    Raises:
        LonelyImageError: one does not.
    """
    stride = spec.model.backbone.stride
    size = spec.recipe.batch_size
    alone = size == 1 or training_images % size == 1
    if spec.model.norm and alone and spec.data.image_size <= stride:
        raise LonelyImageError(
            f"{spec.label}: {training_images:,} "
            f"training images in batches of {size} leave one of a single image, and its last "
            "feature map, one pixel, is too little for BN: take images larger than "
            f"{stride}×{stride}, or one more or fewer"
        )
