"""A user's own images (`--dataset folder:PATH`): does what the paper says hold on other data?"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import center_crop, resize

from dia_repro.data.dataset import DataError, Dataset, Images, as_images
from dia_repro.data.folder import Files, ImageFolder, scan
from dia_repro.data.inspection import OnProgress, inspect, sound
from dia_repro.data.streaming import StreamedDataset
from dia_repro.experiments.names import DataLocation
from dia_repro.experiments.protocols import LARGEST_LIKE_CIFAR, DataChoice, own_images
from dia_repro.experiments.spec import DataSpec

PREFIX = "folder:"
MEMORY = "inspections"  # inside the folder of downloaded data sets
DEFAULT_SIDE, LEAST_SIDE, LARGEST_SIDE = 32, 8, 1024
LEAST_STD = 1 / 255


def choose_folder(
    path: Path,
    image_size: int | None,
    root: Path,
    *,
    skip_damaged: bool = False,
    on_progress: OnProgress | None = None,
) -> DataChoice:
    """Look a folder of images through, and say what an experiment on it is.

    Args:
        path: holds train/CLASS/ and test/CLASS/ or val/CLASS/; its own name is the data's.
        image_size: side in pixels; None takes the images' own if all agree, else 32.
        root: the folder of downloaded data sets, where the look is remembered.

    Raises:
        DataError: it is not there, not laid out so, or has damaged images.
    """
    path = path.resolve()
    found = scan(path)
    inspection = inspect(found, root / MEMORY, on_progress)
    kept = sound(found, inspection, skip_damaged=skip_damaged)
    own = inspection.side if inspection.side in range(LEAST_SIDE, LARGEST_SIDE + 1) else None
    size = image_size or own or DEFAULT_SIDE
    spec = own_images(PREFIX + path.name, len(kept.classes), size, inspection.content_hash)
    return DataChoice(spec, len(kept.train), path)


def load_folder(spec: DataSpec, location: DataLocation) -> Dataset | StreamedDataset:
    """The images that a spec was made for.

    Raises:
        DataError: they are not there, or not the same any more.
    """
    path = location.folder
    if path is None:
        raise DataError(f"{spec.dataset} is not on this machine: give its path with --dataset")
    found = scan(path)
    inspection = inspect(found, location.root / MEMORY)
    if inspection.content_hash != spec.content_hash:
        raise DataError(f"the images in {path} have changed since the run was asked for")
    kept = sound(found, inspection, skip_damaged=location.skip_damaged)
    if spec.image_size > LARGEST_LIKE_CIFAR:
        return StreamedDataset(spec.dataset, kept, spec.image_size, inspection.content_hash)
    train, test = (_decode(kept, split, spec.image_size) for split in (kept.train, kept.test))
    mean, std = _statistics(train.pixels)
    return Dataset(spec.dataset, train, test, mean, std)


def _decode(folder: ImageFolder, split: Files, size: int) -> Images:
    pixels = np.empty((len(split), size, size, 3), dtype=np.uint8)

    def decode(index: int) -> None:
        with Image.open(folder.root / split.paths[index].decode()) as file:
            image = file.convert("RGB")
        if image.size != (size, size):
            # The middle first: a very long image would grow beyond all memory.
            side = min(image.size)
            image = resize(center_crop(image, [side, side]), [size, size])
        pixels[index] = np.asarray(image)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(decode, range(len(split))))
    return as_images(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(split.labels))


def _statistics(
    pixels: Tensor,
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of each channel, of pixels scaled to [0, 1]."""
    total, squares = torch.zeros(2, 3, dtype=torch.int64)
    for part in pixels.split(1000):
        whole = part.to(torch.int64)
        total += whole.sum((0, 2, 3))
        squares += whole.square().sum((0, 2, 3))
    count = pixels.numel() // 3
    mean = total.double() / count
    std = (squares.double() / count - mean.square()).clamp_min(0).sqrt()
    red, green, blue = (mean / 255).tolist()
    r, g, b = (std / 255).clamp_min(LEAST_STD).tolist()
    return (red, green, blue), (r, g, b)
