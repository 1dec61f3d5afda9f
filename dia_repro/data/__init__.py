"""Data sets: where their images come from, and how batches are made of them."""

from __future__ import annotations

import torch

from dia_repro.data.dataset import WHOLE, Batch, DataError, Dataset, Images, OnProgress
from dia_repro.data.resident import ResidentData
from dia_repro.data.streaming import StreamedData, StreamedDataset
from dia_repro.experiments.names import DataLocation
from dia_repro.experiments.spec import DataSpec

PACKED = "packed:"

__all__ = [
    "AnyDataset",
    "Batch",
    "DataError",
    "Dataset",
    "Images",
    "StreamedDataset",
    "batches_of",
    "load",
]

AnyDataset = Dataset | StreamedDataset


def load(
    spec: DataSpec, location: DataLocation, on_progress: OnProgress | None = None
) -> AnyDataset:
    """The data that an experiment names.

    Args:
        on_progress: called with images done and images in all, where all are looked through.

    Raises:
        DataError: they are not there, damaged, or not what they were.
    """
    if spec.dataset == "digits":
        from dia_repro.data.digits import load_digits

        return load_digits(spec.image_size)
    if spec.dataset == "imagenet":
        from dia_repro.data.imagenet import load_imagenet

        return load_imagenet(spec.image_size, location.root, on_progress)
    if spec.dataset.startswith(PACKED):
        from dia_repro.data.packed import load_packed

        return load_packed(spec, location, on_progress)
    if spec.content_hash is not None:
        from dia_repro.data.own import load_folder

        return load_folder(spec, location, on_progress)
    from dia_repro.data.cifar import load_cifar

    return load_cifar(spec.dataset, location.root)


def batches_of(
    dataset: AnyDataset,
    augmentation: str,
    device: torch.device,
    workers: int,
    part: slice = WHOLE,
) -> ResidentData | StreamedData:
    """What makes training and test batches of a data set.

    Args:
        workers: processes that decode images, where they are not held decoded.
        part: of each batch, which of its images are made: there may be none.
    """
    if isinstance(dataset, StreamedDataset):
        return StreamedData(dataset, augmentation, device, workers, part)
    return ResidentData(dataset, augmentation, device, part)
