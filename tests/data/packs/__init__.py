"""Packs for tests: made of photographs that are made up."""

from __future__ import annotations

from pathlib import Path

import torch

from dia_repro.data import StreamedDataset, load
from dia_repro.data.packed import choose_packed
from dia_repro.data.packing import folder_source
from dia_repro.data.shards import Job
from dia_repro.experiments.names import DataLocation

CPU = torch.device("cpu")
TRAIN, TEST = 11, 4


def job(images: Path, *, side: int = 96, skip_damaged: bool = False, workers: int = 2) -> Job:
    data = images.parent / "data"
    source, classes = folder_source(images, data, skip_damaged=skip_damaged)
    return Job(source, classes, images.parent / "pack", side, 90, workers)


def opened(path: Path, memory: Path, size: int = 80) -> StreamedDataset:
    choice = choose_packed(path, size, memory.parent)
    dataset = load(choice.spec, DataLocation(memory.parent, path))
    assert isinstance(dataset, StreamedDataset)
    return dataset
