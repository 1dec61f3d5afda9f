"""How many images a second one core decodes and varies: of real files, and of the same packed."""

from __future__ import annotations

import io
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from dia_repro.data.dataset import DataError
from dia_repro.data.decoding import from_file, from_jpeg
from dia_repro.data.folder import SUFFIXES
from dia_repro.data.packed import Pack
from dia_repro.data.photographs import jpeg
from dia_repro.data.shards import packed_jpeg

GROUPS, GROUP = 5, 16  # medians are over groups of so many images
LEAST = GROUPS  # images without which nothing is measured
CLASSES = 20  # that a sample is drawn from: listing all of ImageNet would take longer
PACK_SIDE, PACK_QUALITY = 256, 90

Item = TypeVar("Item")


@dataclass(frozen=True)
class CoreRate:
    """What a data path gives, as measured.

    Attributes:
        per_core: images a second of one core: read, decoded, cropped, resized.
        pack_gain: how many times as many of the same images packed; None where they are.
        made_up: whether the images are photographs made up for lack of real ones.
    """

    per_core: float
    pack_gain: float | None
    made_up: bool = False


def rate_of_folder(root: Path, size: int, *, turn: bool) -> CoreRate:
    """Of images in train/CLASS/, a random sample of them.

    The first reading counts, as it does in training: from the disk where memory does not hold all.

    Args:
        size: side of what the network sees, in pixels.
        turn: whether images are turned as their EXIF data say.

    Raises:
        DataError: there are too few, or one cannot be decoded.
    """
    paths = _sample(root / "train")
    if len(paths) < LEAST:
        raise DataError(f"too few images in {root} to measure how fast they are decoded")
    try:
        return _compared(paths, size, turn=turn)
    except DataError:
        raise
    except Exception as error:  # decoders raise what they like
        raise DataError(f"an image in {root} cannot be decoded: {error}") from error


def rate_of_pack(pack: Pack, size: int) -> CoreRate:
    """Of packed training images, a random sample of them."""
    count = min(GROUPS * GROUP, len(pack.train))
    indices = random.sample(range(len(pack.train)), count)

    def decode(index: int) -> None:
        try:
            from_jpeg(pack.train.jpeg(index), size, index)
        except Exception as error:  # decoders raise what they like
            where = pack.train.describe(index)
            raise DataError(f"{where} cannot be decoded: {error}".splitlines()[0]) from error

    with _one_thread():
        decode(0)
        taken = [_seconds(group, decode) for group in _groups(indices)]
    return CoreRate(1 / statistics.median(taken), None)


def rate_of_made_up(size: int) -> CoreRate:
    """Of made-up photographs of ImageNet's customary size, held in memory."""
    rate = _compared([io.BytesIO(jpeg(number)) for number in range(GROUPS * GROUP)], size)
    return CoreRate(rate.per_core, rate.pack_gain, made_up=True)


def _compared(files: Sequence[Path | io.BytesIO], size: int, *, turn: bool = False) -> CoreRate:
    def original(file: Path | io.BytesIO) -> None:
        from_file(file, size, 1, turn=turn)

    def packed(content: np.ndarray) -> None:
        from_jpeg(content, size, 1)

    side = max(PACK_SIDE, size)
    first, gains = [], []
    with _one_thread():
        for group in _groups(files):
            first.append(_seconds(group, original))
            again = _seconds(group, original)
            contents = [
                np.frombuffer(packed_jpeg(file, side, PACK_QUALITY, turn=turn), np.uint8)
                for file in group
            ]
            gains.append(again / _seconds(contents, packed))
    # The very first group also pays for what is loaded once.
    return CoreRate(1 / statistics.median(first[1:]), statistics.median(gains[1:]))


@contextmanager
def _one_thread() -> Iterator[None]:
    """As workers have it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _groups(items: Sequence[Item]) -> list[Sequence[Item]]:
    step = -(-len(items) // GROUPS)
    return [items[first : first + step] for first in range(0, len(items), step)]


def _seconds(items: Sequence[Item], work: Callable[[Item], object]) -> float:
    """For one of the items."""
    started = time.perf_counter()
    for item in items:
        work(item)
    return (time.perf_counter() - started) / len(items)


def _sample(folder: Path) -> list[Path]:
    """Random images of random classes, listing no more of them."""
    try:
        classes = [entry.path for entry in os.scandir(folder) if entry.is_dir()]
        chosen = random.sample(classes, min(CLASSES, len(classes)))
        each = -(-GROUPS * GROUP // max(1, len(chosen)))
        found: list[Path] = []
        for one in chosen:
            names = [
                entry.path
                for entry in os.scandir(one)
                if entry.name.lower().endswith(SUFFIXES) and entry.is_file()
            ]
            found += map(Path, random.sample(names, min(each, len(names))))
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror or error}") from error
    random.shuffle(found)
    return found[: GROUPS * GROUP]
