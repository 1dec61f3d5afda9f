"""A user's own images (`--dataset folder:PATH`): does what the paper says hold on other data?"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dia_repro.data.dataset import DataError, Dataset, Images, OnProgress, as_images
from dia_repro.data.folder import Files, ImageFolder, scan
from dia_repro.data.inspection import MEMORY, inspect, sound
from dia_repro.data.opening import in_threads, open_rgb, upright
from dia_repro.data.streaming import StreamedDataset
from dia_repro.experiments.names import FOLDER, DataLocation
from dia_repro.experiments.protocols import LARGEST_LIKE_CIFAR, DataChoice, own_images
from dia_repro.experiments.spec import DataSpec

DEFAULT_SIDE, LEAST_SIDE, LARGEST_SIDE = 32, 8, 1024
LEAST_STD = 1 / 255


def choose_folder(
    path: Path,
    image_size: int | None,
    root: Path,
    *,
    skip_damaged: bool = False,
    on_progress: OnProgress | None = None,
    remark: Callable[[str], object] | None = None,
) -> DataChoice:
    """Look a folder of images through, and say what an experiment on it is.

    Args:
        path: holds train/CLASS/ and test/CLASS/ or val/CLASS/; its own name is the data's.
        image_size: side in pixels; None takes the images' own if all agree, else 32.
        root: the folder of downloaded data sets, where the look is remembered.
        remark: called with what a person should know of how the folder was read.

    Raises:
        DataError: it is not there, not laid out so, or has damaged images.
    """
    path = resolved(path)
    found = scan(path)
    inspection = inspect(found, root / MEMORY, on_progress)
    if remark is not None:
        for text in (*found.remarks, *inspection.remarks):
            remark(text)
    kept = sound(found, inspection, skip_damaged=skip_damaged)
    own = inspection.side if inspection.side in range(LEAST_SIDE, LARGEST_SIDE + 1) else None
    size = image_size or own or DEFAULT_SIDE
    try:
        spec = own_images(FOLDER + path.name, len(kept.classes), size, inspection.content_hash)
    except ValueError as error:  # nothing, a line break, bytes that are no UTF-8
        raise DataError(f"no experiment can be named after {str(path)!r}: rename it") from error
    return DataChoice(spec, len(kept.train), path)


def resolved(path: Path) -> Path:
    """The folder's own place, without links.

    Raises:
        DataError: links lead in a circle.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise DataError(f"cannot read {path}: its links lead in a circle") from error


def load(
    spec: DataSpec, location: DataLocation, on_progress: OnProgress | None = None
) -> Dataset | StreamedDataset:
    """The images that a spec was made for.

    Args:
        on_progress: called with images done and images in all, where they are looked through anew
            or decoded; may raise.

    Raises:
        DataError: they are not there, or not the same any more.
    """
    path = location.folder
    if path is None:
        raise DataError(f"{spec.dataset} is not on this machine: give its path with --dataset")
    found = scan(path)
    inspection = inspect(found, location.root / MEMORY, on_progress)
    if inspection.content_hash != spec.content_hash:
        raise DataError(f"the images in {path} have changed since the run was asked for")
    kept = sound(found, inspection, skip_damaged=location.skip_damaged)
    if spec.image_size > LARGEST_LIKE_CIFAR:
        return StreamedDataset(spec.dataset, kept, spec.image_size, inspection.content_hash)
    splits = (kept.train, kept.test)
    train, test = (_decode(kept, split, spec.image_size, on_progress) for split in splits)
    mean, std = _statistics(train.pixels)
    return Dataset(spec.dataset, train, test, mean, std)


def _decode(folder: ImageFolder, split: Files, size: int, on_progress: OnProgress | None) -> Images:
    pixels = np.empty((len(split), size, size, 3), dtype=np.uint8)

    def decode(index: int) -> None:
        path = split.file(folder.root, index)
        try:
            image = upright(open_rgb(io.BytesIO(split.read(folder.root, index))))
        except DataError:  # it is not the one that was looked at
            raise
        except Exception as error:  # decoders raise what they like
            raise DataError(f"{path} cannot be decoded any more: {error}") from error
        if image.size != (size, size):
            # The middle first: a very long image would grow beyond all memory.
            image = middle(image, size)
        pixels[index] = np.asarray(image)

    for _ in in_threads(decode, range(len(split)), on_progress=on_progress):
        pass
    return as_images(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(split.labels))


def middle(image: Image.Image, size: int) -> Image.Image:
    """The largest square in the middle, resized; as torchvision's functions do it.

    By Pillow itself: loading torchvision takes longer than to look through a small folder.
    """
    width, height = image.size
    side = min(width, height)
    left, top = round((width - side) / 2), round((height - side) / 2)
    square = image.crop((left, top, left + side, top + side))
    return square.resize((size, size), Image.Resampling.BILINEAR)


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
