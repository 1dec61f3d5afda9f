"""Images too many or too large to be held: decoded by worker processes as training needs them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.functional import center_crop, hflip, pil_to_tensor, resize

from dia_repro.data.dataset import Batch, DataError, Normalisation
from dia_repro.data.folder import Files, ImageFolder

# Of training images, pixels scaled to [0, 1]: customary for ImageNet.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# The shorter side before the centre crop, as a multiple of the crop's: 256 for 224.
RESIZE_RATIO = 256 / 224


@dataclass(frozen=True)
class StreamedDataset:
    """A data set that stays on disk.

    Attributes:
        name: as in a spec's `data.dataset`.
        files: its images.
        image_size: side of what the network sees, in pixels.
        content_hash: of all images.
    """

    name: str
    files: ImageFolder
    image_size: int
    content_hash: str

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


class _Decoded(TorchDataset[tuple[Tensor, int]]):
    """Images by number, as (3, S, S) uint8 and label.

    Args:
        seeds: (N,) for each image's random crop and flip; None leaves them at the centre.
    """

    def __init__(self, dataset: StreamedDataset, split: Files, seeds: Tensor | None) -> None:
        self.root, self.split, self.seeds = dataset.files.root, split, seeds
        self.size = dataset.image_size

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path = self.root / self.split.paths[index].decode()
        try:
            with Image.open(path) as file:
                image = file.convert("RGB")
        except Exception as error:  # decoders raise what they like
            raise DataError(f"{path} cannot be decoded any more: {error}") from error
        if self.seeds is None:
            image = centred(image, self.size)
        else:
            image = varied(image, self.size, int(self.seeds[index]))
        return pil_to_tensor(image), int(self.split.labels[index])


def centred(image: Image.Image, size: int) -> Image.Image:
    """Shorter side to 8/7 of `size` (256 for 224), then the crop in the middle."""
    middle: Image.Image = center_crop(resize(image, [round(size * RESIZE_RATIO)]), [size, size])
    return middle


def varied(image: Image.Image, size: int, seed: int) -> Image.Image:
    """A crop of 8 to 100 % of the area, 3:4 to 4:3, resized to `size`; half of them mirrored."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        cropped: Image.Image = RandomResizedCrop(size)(image)
        mirror = bool(torch.rand(()) < 0.5)
    if mirror:
        cropped = hflip(cropped)
    return cropped


class StreamedData:
    """Normalised float batches from images on disk; the same whatever the number of workers.

    Args:
        dataset: the data set.
        augmentation: `resized-crop-flip` or `none`.
        device: where batches are made.
        workers: processes that decode; 0 decodes in this one.
    """

    def __init__(
        self, dataset: StreamedDataset, augmentation: str, device: torch.device, workers: int
    ) -> None:
        self.dataset, self.device, self.workers = dataset, device, workers
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
        images = _Decoded(self.dataset, self.dataset.files.train, seeds if self.augment else None)
        yield from self._batches(images, permutation[start * batch_size :].tolist(), batch_size)

    def test_batches(self, batch_size: int) -> Iterator[Batch]:
        """Every test image once, the crop in its middle."""
        images = _Decoded(self.dataset, self.dataset.files.test, None)
        yield from self._batches(images, range(self.dataset.test_images), batch_size)

    def _batches(self, images: _Decoded, order: Sequence[int], batch_size: int) -> Iterator[Batch]:
        on_gpu = self.device.type == "cuda"
        loader = DataLoader(
            images,
            batch_size=batch_size,
            sampler=order,
            num_workers=self.workers,
            # Forked, they have this process's signal handlers and end when it does; where it was
            # itself forked by a server, torch would start another server for them.
            multiprocessing_context="fork" if self.workers and sys.platform == "linux" else None,
            pin_memory=on_gpu,
            # Not torch's global state, which belongs to dropout: a resumed epoch would differ.
            generator=torch.Generator(),
        )
        for pixels, labels in loader:
            yield (
                self.normalise(pixels.to(self.device, non_blocking=on_gpu)),
                labels.to(self.device, non_blocking=on_gpu),
            )
