"""Images to train on: noise, synthetic photographs in files, and the same photographs packed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.photographs import write_photographs
from dia_repro.data.dataset import Dataset, Images, StreamedDataset
from dia_repro.data.image_folder import scan
from dia_repro.experiments.spec import Spec

MEAN = STD = (0.5, 0.5, 0.5)
DISTINCT = 256  # different photographs; the others are copies
PACKED_SIDE, PACKED_QUALITY = 256, 90


def random_images(spec: Spec, training_images: int, test_images: int) -> Dataset:
    """Return noise in the shape of a spec's data; the content does not change the duration."""
    random = torch.Generator().manual_seed(0)

    def split(count: int) -> Images:
        shape = (count, 3, spec.data.image_size, spec.data.image_size)
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=random)
        return Images(pixels, torch.randint(0, spec.data.classes, (count,), generator=random))

    return Dataset(spec.data.dataset, split(training_images), split(test_images), MEAN, STD)


def image_files(
    name: str, size: int, training_images: int, test_images: int, root: Path
) -> StreamedDataset:
    """Write synthetic photographs as JPEG files of ImageNet's usual size, in pixels and in bytes.

    Args:
        name: name of the data set.
        size: side of the images in training, in pixels.
        root: folder to write to.
    """
    write_photographs(root, training_images, test_images, DISTINCT)
    found = scan(root)
    return StreamedDataset(name, found.train, found.test, size, "", found.classes)


def packed_dataset(files: StreamedDataset, target: Path, workers: int) -> StreamedDataset:
    """Pack the images into a folder, and return the packed data set."""
    from dia_repro.data.packing import Job, pack  # brings torchvision

    packed, _ = pack(Job(files, target, PACKED_SIDE, PACKED_QUALITY, workers))
    return replace(files, train=packed.train, test=packed.test, packed=True)
