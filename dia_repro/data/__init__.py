"""Data sets: where their images come from, and how batches are made of them."""

from __future__ import annotations

from importlib import import_module

import torch

from dia_repro.data.dataset import WHOLE, Batch, DataError, Dataset, Images, OnProgress
from dia_repro.data.resident import ResidentData
from dia_repro.data.streaming import StreamedData, StreamedDataset
from dia_repro.experiments.names import DataLocation
from dia_repro.experiments.spec import DataSpec

# The module that loads each kind of data by its `load`, which imports what it needs.
SOURCES = {
    "digits": "digits",
    "cifar10": "cifar",
    "cifar100": "cifar",
    "imagenet": "imagenet",
    "folder": "own",
    "packed": "packed",
}

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
    source = import_module(f"dia_repro.data.{SOURCES[spec.dataset.partition(':')[0]]}")
    dataset: AnyDataset = source.load(spec, location, on_progress)
    return dataset


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
