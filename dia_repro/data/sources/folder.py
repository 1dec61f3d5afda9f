"""A user's own images (`--dataset folder:PATH`): does what the paper says hold on other data?"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from dia_repro.data import registry
from dia_repro.data.dataset import AnyDataset, Dataset, Images, StreamedDataset, as_images
from dia_repro.data.decoded import decoded
from dia_repro.data.image_folder import Files, scan
from dia_repro.data.image_folder import sample as sample_folder
from dia_repro.data.inspection import MEMORY, inspect, sound
from dia_repro.data.opening import decoded_again, in_threads, open_rgb, upright
from dia_repro.data.registry import DataChoice, DataError, Findings, OnProgress
from dia_repro.experiments.names import FOLDER, DataLocation
from dia_repro.experiments.spec import DataSpec

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_SIDE, LEAST_SIDE, LARGEST_SIDE = 32, 8, 1024
LEAST_STD = 1 / 255


def choose_folder(
    path: Path,
    image_size: int | None,
    location: DataLocation,
    on_progress: OnProgress | None = None,
    remark: Callable[[str], object] = lambda _: None,
) -> DataChoice:
    """Look a folder of images through, and say what an experiment on it is: see `Choose`.

    Args:
        path: holds train/CLASS/ and test/CLASS/ or val/CLASS/; its own name is the data's.
        image_size: side in pixels; None takes the images' own if all agree, else 32.
    """
    path = resolved(path)
    found = scan(path)
    inspection = inspect(found, location.root / MEMORY, on_progress)
    for text in (*found.remarks, *inspection.remarks):
        remark(text)
    kept = sound(found, inspection, skip_damaged=location.skip_damaged)
    own = inspection.side if inspection.side in range(LEAST_SIDE, LARGEST_SIDE + 1) else None
    size = image_size or own or DEFAULT_SIDE
    try:
        spec = registry.own_images(
            FOLDER + path.name, len(kept.classes), size, inspection.content_hash
        )
    except ValueError as error:  # nothing, a line break, bytes that are no UTF-8
        raise DataError(f"no experiment can be named after {str(path)!r}: rename it") from error
    return DataChoice(spec, len(kept.train), path)


def resolved(path: Path) -> Path:
    """Return a folder's path without links.

    Raises:
        DataError: links lead in a circle.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise DataError(f"cannot read {path}: its links lead in a circle") from error


def load(
    spec: DataSpec, location: DataLocation, on_progress: OnProgress | None = None
) -> AnyDataset:
    """Return the images that a spec was made for.

    Args:
        on_progress: called with images done and images in all, where they are looked through anew
            or decoded; may raise.

    Raises:
        DataError: they are not there, or not the same any more.
    """
    path = registry.own_folder(spec, location)
    found = scan(path)
    inspection = inspect(found, location.root / MEMORY, on_progress)
    digest = inspection.content_hash
    if digest != spec.content_hash:
        raise DataError(f"the images in {path} have changed since the run was asked for")
    kept = sound(found, inspection, skip_damaged=location.skip_damaged)
    if registry.is_streamed(spec):
        return StreamedDataset(
            spec.dataset, kept.train, kept.test, spec.image_size, digest, kept.classes
        )
    side, splits = spec.image_size, (kept.train, kept.test)
    pixels = decoded(
        location.root,
        path,
        (len(kept.train) + len(kept.test), side, side, 3),
        digest,
        lambda: np.concatenate([_decode(split, side, on_progress) for split in splits]),
    )
    of_training, of_test = np.split(pixels, [len(kept.train)])
    train, test = _images(of_training, kept.train), _images(of_test, kept.test)
    mean, std = _statistics(train.pixels)
    return Dataset(spec.dataset, train, test, mean, std)


def sample(spec: DataSpec, location: DataLocation, count: int) -> StreamedDataset:
    """Return a few random training images."""
    files = sample_folder(registry.own_folder(spec, location), count)
    return StreamedDataset(spec.dataset, files, files, spec.image_size, "")


def check(path: Path, location: DataLocation, on_progress: OnProgress | None) -> Findings:
    """Look a folder through; damaged images are findings.

    Raises:
        DataError: it is not there, or not laid out as it should be.
    """
    found = scan(resolved(path))
    inspection = inspect(found, location.root / MEMORY, on_progress)
    size = f"{inspection.side}×{inspection.side} pixels" if inspection.side else "various sizes"
    said = [f"Damaged: {inspection.complaint}"] if inspection.damaged else []
    there = (
        f"{path}: {len(found.classes):,} classes, {len(found.train):,} training and "
        f"{len(found.test):,} test images of {size}, {len(inspection.damaged):,} damaged; "
        f"content hash {inspection.content_hash[:16]}"
    )
    damaged = tuple(path / name for name in inspection.damaged)
    return Findings((*said, *found.remarks, *inspection.remarks, there), damaged)


def _decode(split: Files, size: int, on_progress: OnProgress | None) -> np.ndarray:
    """Return a split's pixels, (N, H, W, 3) uint8."""
    pixels = np.empty((len(split), size, size, 3), dtype=np.uint8)

    def decode(index: int) -> None:
        with decoded_again(split, index):
            image = upright(open_rgb(io.BytesIO(split.read(index))))
        if image.size != (size, size):
            # The middle first: a very long image would grow beyond all memory.
            image = middle(image, size)
        pixels[index] = np.asarray(image)

    for _ in in_threads(decode, range(len(split)), on_progress=on_progress):
        pass
    return pixels


def _images(pixels: np.ndarray, split: Files) -> Images:
    import torch

    return as_images(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(split.labels))


def middle(image: Image.Image, size: int) -> Image.Image:
    """Return the largest square in the middle, resized as torchvision's functions do it.

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
    """Return mean and standard deviation of each channel, of pixels scaled to [0, 1]."""
    import torch

    counts = np.zeros((3, 256), dtype=np.int64)
    for part in pixels.split(1000):
        for channel, values in enumerate(part.unbind(1)):
            counts[channel] += np.bincount(values.numpy().ravel(), minlength=256)
    values = np.arange(256)
    total, squares = (torch.from_numpy(counts @ values**power) for power in (1, 2))
    count = pixels.numel() // 3
    mean = total.double() / count
    std = (squares.double() / count - mean.square()).clamp_min(0).sqrt()
    red, green, blue = (mean / 255).tolist()
    r, g, b = (std / 255).clamp_min(LEAST_STD).tolist()
    return (red, green, blue), (r, g, b)


registry.register(registry.Source(FOLDER, load, choose=choose_folder, check=check, sample=sample))
