"""A user's own images (`--dataset folder:PATH`)."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image

from dia_repro.data import registry
from dia_repro.data.dataset import AnyDataset, Colour, Dataset, StreamedDataset, as_images
from dia_repro.data.decoded import decoded
from dia_repro.data.image_folder import Files, scan
from dia_repro.data.image_folder import sample as sample_folder
from dia_repro.data.inspection import MEMORY, inspect, sound
from dia_repro.data.opening import decoded_again, open_rgb, upright
from dia_repro.data.registry import DataChoice, DataError, Findings, OnProgress, Remark
from dia_repro.data.threads import in_threads
from dia_repro.experiments.names import FOLDER, DataLocation
from dia_repro.experiments.spec import DataSpec

DEFAULT_SIDE, LEAST_SIDE, LARGEST_SIDE = 32, 8, 1024
LEAST_STD = 1 / 255


def choose_folder(
    path: Path,
    image_size: int | None,
    location: DataLocation,
    on_progress: OnProgress | None = None,
    remark: Remark = lambda _: None,
) -> DataChoice:
    """Inspect a folder of images, and return what an experiment on it is: see `Choose`.

    Args:
        path: contains train/CLASS/ and test/CLASS/ or val/CLASS/; its own name is the data's.
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
    classes, content = len(kept.classes), inspection.content_hash
    spec = registry.own_images(FOLDER + path.name, classes, size, content)
    return DataChoice(spec, len(kept.train), path)


def resolved(path: Path) -> Path:
    """Return a folder's path without links; refuse links that lead in a circle."""
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise DataError(f"cannot read {path}: its links lead in a circle") from error


def load(
    spec: DataSpec, location: DataLocation, on_progress: OnProgress | None = None
) -> AnyDataset:
    """Return the images that a spec was made for, and no others."""
    import torch  # takes long to load

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
    side, images = spec.image_size, kept.images
    shape = (len(images), side, side, 3)
    pixels = decoded(location.root, path, shape, digest, lambda: _decode(images, side, on_progress))
    parts = np.split(pixels, [len(kept.train)])
    train, test = (
        as_images(torch.from_numpy(part).permute(0, 3, 1, 2), torch.from_numpy(split.labels))
        for part, split in zip(parts, (kept.train, kept.test), strict=True)
    )
    return Dataset(spec.dataset, train, test, *_statistics(parts[0]))


def sample(spec: DataSpec, location: DataLocation, count: int) -> StreamedDataset:
    """Return a few random training images."""
    files = sample_folder(registry.own_folder(spec, location), count)
    return StreamedDataset(spec.dataset, files, files, spec.image_size, "")


def check(path: Path, location: DataLocation, on_progress: OnProgress | None) -> Findings:
    """Inspect a folder; damaged images are findings.

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


def _decode(images: Files, size: int, on_progress: OnProgress | None) -> np.ndarray:
    """Return pixels, (N, H, W, 3) uint8."""
    pixels = np.empty((len(images), size, size, 3), dtype=np.uint8)

    def decode(index: int) -> None:
        with decoded_again(images, index):
            image = upright(open_rgb(images.read(index)))
        if image.size != (size, size):
            # The middle first: a very long image would grow beyond all memory.
            image = middle(image, size)
        pixels[index] = np.asarray(image)

    for _ in in_threads(decode, range(len(images)), on_progress=on_progress):
        pass
    return pixels


def middle(image: Image.Image, size: int) -> Image.Image:
    """Return the largest square in the middle, resized as torchvision's functions do it.

    By Pillow itself: loading torchvision takes longer than to look through a small folder.
    """
    width, height = image.size
    side = min(width, height)
    left, top = round((width - side) / 2), round((height - side) / 2)
    square = image.crop((left, top, left + side, top + side))
    return square.resize((size, size), Image.Resampling.BILINEAR)


def _statistics(pixels: np.ndarray) -> tuple[Colour, Colour]:
    """Return mean and standard deviation of each channel, of pixels scaled to [0, 1].

    Args:
        pixels: (N, H, W, 3) uint8.
    """
    import torch

    counts = np.zeros((3, 256), dtype=np.int64)
    for first in range(0, len(pixels), 1000):
        for channel in range(3):
            values = pixels[first : first + 1000, ..., channel].ravel()
            counts[channel] += np.bincount(values, minlength=256)
    count, values = int(counts[0].sum()), np.arange(256)
    # By torch, whose last digits are those of earlier runs.
    total, squares = (torch.from_numpy(counts @ values**power).double() for power in (1, 2))
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(0).sqrt()
    std = (std / 255).clamp_min(LEAST_STD)
    return cast("Colour", tuple((mean / 255).tolist())), cast("Colour", tuple(std.tolist()))


registry.register(registry.Source(FOLDER, load, choose=choose_folder, check=check, sample=sample))
