"""From class folders to a pack: every image decoded, reduced and compressed again, once.

An image whose shorter side is no longer than asked for, and that is an ordinary JPEG file, goes
into the pack as it is. Others are reduced as evaluation does it (bilinear, shorter side), so that
what is tested on differs by the compression alone.

The files are written into a folder of another name, which gets its own when all of it is on the
disk: there is no half a pack. What was interrupted continues after the last images in the index.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image

from dia_repro.atomic import NoFileError, flush_file, open_own, publish, write_file
from dia_repro.data.dataset import StreamedDataset
from dia_repro.data.decoding import reduced
from dia_repro.data.image_folder import Files
from dia_repro.data.opening import FORMATS, MOST_BYTES, decoded_again, in_threads, open_rgb, upright
from dia_repro.data.registry import DataError, OnProgress
from dia_repro.data.sources.packed import (
    FORMAT,
    IMAGES,
    INDEX,
    MANIFEST,
    Manifest,
    Pack,
    holds,
    label_of,
    open_pack,
    row_type,
)

JOB = "job.json"
FOLDER = "packed"  # inside the folder of downloaded data sets
BLOCK = 1024  # images that are on the disk before the index says so
ORDINARY = ("RGB", "L")  # modes of a JPEG file that every decoder reads alike
CONTINUES = "what is done is kept, and the same command continues from there"


@dataclass(frozen=True)
class Job:
    """What is to be packed, and how.

    Attributes:
        source: images in files; damaged ones are left out already.
        target: the pack's folder.
        side: what the shorter side is reduced to, in pixels; 0 leaves all as they are.
        quality: of JPEG files that are written anew, 1 to 100.
        workers: threads that decode and compress.
    """

    source: StreamedDataset
    target: Path
    side: int
    quality: int
    workers: int

    @property
    def splits(self) -> tuple[Files, Files]:
        """Training and test images."""
        train, test = self.source.train, self.source.test
        if not (isinstance(train, Files) and isinstance(test, Files)):
            raise DataError(f"{self.source.name} is packed already")
        return train, test

    def manifest(self, name_bytes: int, index_hash: str) -> Manifest:
        """Return what a pack of it says of itself."""
        return Manifest(
            source=self.source.name,
            source_hash=self.source.content_hash,
            side=self.side,
            quality=self.quality,
            classes=self.source.classes,
            train=len(self.source.train),
            test=len(self.source.test),
            name_bytes=name_bytes,
            index_hash=index_hash,
        )


def default_target(data: Path, source: str, side: int, quality: int) -> Path:
    """Return where a pack goes unless told otherwise."""
    return data / FOLDER / label_of(source, side, quality)


def pack(job: Job, on_progress: OnProgress | None = None) -> tuple[Pack, bool]:
    """Write a pack, or find it there.

    Args:
        on_progress: called with images done and images in all.

    Returns:
        The pack, and whether it was there already.

    Raises:
        DataError: another pack is there, an image cannot be decoded any more, or the disk is full.
    """
    if job.target.exists():
        return _found(job), True
    partial = job.target.with_name(f"{job.target.name}.partial")
    with _writing(partial), _alone(job, partial):
        if job.target.exists():  # another process has made it meanwhile
            return _found(job), True
        partial.mkdir(exist_ok=True)
        if partial.is_symlink():  # others may have put it there, to have other files written
            raise NoFileError(errno.EEXIST, "it is a link", str(partial))
        _write(job, partial, on_progress)
        (partial / JOB).unlink(missing_ok=True)
        publish(partial, job.target)
    return open_pack(job.target), False


def lock_of(partial: Path) -> Path:
    """Return the lock of a pack that is being written: beside its folder, which gets another name.

    With the lock inside, another process could take it before the folder has that name.
    """
    return partial.with_name(f"{partial.name}.lock")


@contextmanager
def _alone(job: Job, partial: Path) -> Iterator[None]:
    partial.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_of(partial))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise DataError(f"{job.target} is being packed by another process") from None
    try:
        yield
        lock_of(partial).unlink(missing_ok=True)
    finally:
        lock.release()


def _found(job: Job) -> Pack:
    found = open_pack(job.target)
    manifest = found.manifest
    if manifest != job.manifest(manifest.name_bytes, manifest.index_hash):
        raise DataError(f"{job.target} holds another pack: delete it, or give another with --out")
    return found


@contextmanager
def _writing(partial: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = f"no space left; {CONTINUES}"
        else:
            reason = error.strerror or str(error)
        place = error.filename if isinstance(error, NoFileError) else partial
        raise DataError(f"cannot write {place}: {reason}") from error


def _write(job: Job, partial: Path, on_progress: OnProgress | None) -> None:
    """Append the images that are not there yet, then say what the pack is."""
    train, test = job.splits
    names = np.concatenate((train.paths, test.paths))
    labels = np.concatenate((train.labels, test.labels))
    name_bytes = names.dtype.itemsize
    total = len(names)
    _forget_another(job, partial)
    with open_both(partial) as (images, index):
        done = _whole(images, index, names, labels)
        for first in range(done, total, BLOCK):
            numbers = range(first, min(first + BLOCK, total))
            start = images.tell()
            rows = _block(job, images, numbers, total, on_progress)
            flush_file(images)
            index.write(np.array(rows, row_type(name_bytes)).tobytes())
            flush_file(index)
            size = (images.tell() - start) / len(numbers)
            _check_room(partial, size * (total - numbers.stop))
    digest = hashlib.sha256((partial / INDEX).read_bytes()).hexdigest()
    write_file(partial / MANIFEST, job.manifest(name_bytes, digest).to_json().encode())
    open_pack(partial)  # which refuses what is not whole


Row = tuple[int, int, int, bytes, bytes]


def _block(
    job: Job, images: IO[bytes], numbers: range, total: int, on_progress: OnProgress | None
) -> list[Row]:
    """Write a block of images, and return their rows of the index."""
    train, test = job.splits
    rows: list[Row] = []

    def convert(number: int) -> tuple[bytes, int, bytes]:
        split, place = (train, number) if number < len(train) else (test, number - len(train))
        with decoded_again(split, place):
            content = split.read(place, "packing began")
            content = packed_jpeg(content, job.side, job.quality, turn=job.source.upright)
        return content, int(split.labels[place]), bytes(split.paths[place])

    def say(done: int, _of: int) -> None:
        if on_progress is not None:
            on_progress(numbers.start + done, total)

    for content, label, name in in_threads(convert, numbers, job.workers, say):
        digest = hashlib.sha256(content).digest()
        rows.append((images.tell(), len(content), label, digest, name))
        images.write(content)
    return rows


def _forget_another(job: Job, partial: Path) -> None:
    """Remove what an interrupted job left that would have made another pack."""
    facts = json.dumps([FORMAT, job.manifest(1, "").content_hash]).encode()
    try:
        with open_own(partial / JOB, "rb") as file:
            same = file.read() == facts
    except FileNotFoundError:
        same = False
    if not same:
        for name in (IMAGES, INDEX):
            (partial / name).unlink(missing_ok=True)
        write_file(partial / JOB, facts)


@contextmanager
def open_both(partial: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Open images and index, to be continued."""
    with open_own(partial / IMAGES, "ab+") as images, open_own(partial / INDEX, "ab+") as index:
        for file in (images, index):
            file.seek(0)
        yield images, index


def _whole(images: IO[bytes], index: IO[bytes], names: np.ndarray, labels: np.ndarray) -> int:
    """Return how many images are there, and cut off what is behind them.

    A loss of power, or a disk, can leave less, zeros or anything else at the end of either file:
    each image is compared with its row, and its row with what it should be.

    Args:
        names: (N,) of all images that are to be packed.
        labels: (N,) of them.
    """
    kind, done, end = row_type(names.dtype.itemsize), 0, 0
    for name, label in zip(names, labels, strict=True):
        content = index.read(kind.itemsize)
        if len(content) < kind.itemsize:
            break
        row = np.frombuffer(content, kind)[0]
        size = int(row["size"])
        if (row["start"], row["label"], row["name"]) != (end, label, name):
            break
        if not 0 < size <= MOST_BYTES or not holds(row, images.read(size)):
            break
        done, end = done + 1, end + size
    images.truncate(end)
    index.truncate(done * kind.itemsize)
    for file in (images, index):
        file.seek(0, io.SEEK_END)
    return done


def packed_jpeg(content: bytes, side: int, quality: int, *, turn: bool) -> bytes:
    """Return an image's file as it goes into a pack.

    Args:
        turn: whether the image is turned as its EXIF data say.

    Raises:
        Exception: whatever the decoder likes.
    """
    opened = open_rgb(io.BytesIO(content))
    as_it_is = _ordinary(content)
    image, orientation = opened
    if turn and orientation != 1:
        image, as_it_is = upright(opened), False
    if side and min(image.size) > side:
        image, as_it_is = reduced(image, side), False
    if as_it_is:
        return content
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _ordinary(content: bytes) -> bool:
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        return image.format == "JPEG" and image.mode in ORDINARY


def _check_room(folder: Path, needed: float) -> None:
    """Say that a disk is too small before it is full."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"no space in {folder}: about {needed / 1e9:,.1f} GB more are needed, and "
            f"{free / 1e9:,.1f} GB are free; {CONTINUES}"
        )
