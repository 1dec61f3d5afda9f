"""Packs for tests: made of photographs that are made up."""

from __future__ import annotations

from pathlib import Path

import torch

from dia_repro.data import DataChoice, load
from dia_repro.data.dataset import StreamedDataset
from dia_repro.data.packing import Job
from dia_repro.data.sources.packed import choose_packed
from dia_repro.experiments.names import DataLocation
from tests.helpers import choose

CPU = torch.device("cpu")
TRAIN, TEST = 11, 4


def job(images: Path, *, side: int = 96, skip_damaged: bool = False, workers: int = 2) -> Job:
    data = images.parent / "data"
    choice = choose(images, 80, data, skip_damaged=skip_damaged)
    source = load(choice.spec, DataLocation(data, images, skip_damaged))
    assert isinstance(source, StreamedDataset)
    return Job(source, images.parent / "pack", side, 90, workers)


def chosen(path: Path, size: int | None = None) -> DataChoice:
    return choose_packed(path, size, DataLocation(path.parent))


def opened(path: Path, size: int = 80) -> StreamedDataset:
    dataset = load(chosen(path, size).spec, DataLocation(path.parent, path))
    assert isinstance(dataset, StreamedDataset)
    return dataset
