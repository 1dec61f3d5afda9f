"""Writing of packs: every image in class folders is decoded, reduced and compressed again, once.

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
from dia_repro.data.opening import FORMATS, MOST_BYTES, decoded_again, open_rgb, upright
from dia_repro.data.registry import DataError, OnProgress
from dia_repro.data.sources import packed
from dia_repro.data.sources.packed import Manifest, Pack, open_pack
from dia_repro.data.threads import in_threads

FOLDER = "packed"  # inside the folder of downloaded data sets
BLOCK = 1024  # images that are on the disk before the index says so
ORDINARY = ("RGB", "L")  # modes of a JPEG file that every decoder reads alike
CONTINUES = "what is done is kept, and the same command continues from there"


@dataclass(frozen=True)
class Job:
    """Packing of one data set.

    Attributes:
        source: images in files; damaged ones are left out already.
        target: the pack's folder.
        side: shorter side that larger images are reduced to, in pixels; 0 leaves all sizes.
        quality: quality of JPEG files that are compressed again, 1 to 100.
        workers: threads that decode and compress.
    """

    source: StreamedDataset
    target: Path
    side: int
    quality: int
    workers: int

    @property
    def images(self) -> Files:
        """Training images, and test images after them."""
        train, test = self.source.train, self.source.test
        if not (isinstance(train, Files) and isinstance(test, Files)):
            raise DataError(f"{self.source.name} is packed already")
        return train.followed_by(test)

    @property
    def manifest(self) -> Manifest:
        """Description of the pack that it makes, without the hash of the index."""
        return Manifest(
            source=self.source.name,
            source_hash=self.source.content_hash,
            side=self.side,
            quality=self.quality,
            classes=self.source.classes,
            train=len(self.source.train),
            test=len(self.source.test),
            name_bytes=self.images.paths.dtype.itemsize,
        )

    def makes(self, manifest: Manifest) -> bool:
        """Return whether it makes the pack of a description, written whole or not."""
        return self.manifest == manifest.model_copy(update={"index_hash": ""})


def default_target(data: Path, source: str, side: int, quality: int) -> Path:
    """Return where a pack goes unless told otherwise."""
    return data / FOLDER / packed.label_of(source, side, quality)


def pack(job: Job, on_progress: OnProgress | None = None) -> tuple[Pack, bool]:
    """Return a pack, written now or found there, and whether it was there.

    Raises:
        DataError: another pack is there, an image cannot be decoded any more, or the disk is full.
    """
    if not job.target.exists():
        partial = job.target.with_name(f"{job.target.name}.partial")
        with _writing(job, partial):
            if not job.target.exists():  # else another process has made it meanwhile
                _write(job, partial, on_progress)
                publish(partial, job.target)
                return open_pack(job.target), False
    found = open_pack(job.target)
    if not job.makes(found.manifest):
        raise DataError(f"{job.target} holds another pack: delete it, or give another with --out")
    return found, True


def lock_of(partial: Path) -> Path:
    """Return the lock of a pack that is being written, next to its folder, which gets another name.

    With the lock inside, another process could take it before the folder has that name.
    """
    return partial.with_name(f"{partial.name}.lock")


@contextmanager
def _writing(job: Job, partial: Path) -> Iterator[None]:
    """Context in which no other process writes the pack, and what cannot be written is named.

    Raises:
        DataError: another process writes it, or the disk is full, not writable or the like.
    """
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        _check_lock(lock_of(partial))
        with FileLock(lock_of(partial)).acquire(timeout=0):
            yield
            lock_of(partial).unlink(missing_ok=True)
    except Timeout:
        raise DataError(f"{job.target} is being packed by another process") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = f"no space left; {CONTINUES}"
        else:
            reason = error.strerror or str(error)
        place = error.filename if isinstance(error, NoFileError) else partial
        raise DataError(f"cannot write {place}: {reason}") from error


def _check_lock(lock: Path) -> None:
    """Refuse a file of that name that is no lock, which is empty: it would be emptied."""
    if lock.is_symlink():  # which is not opened
        return
    if lock.exists() and (not lock.is_file() or lock.stat().st_size):
        raise DataError(f"{lock} is a file of yours: move it away")


def _write(job: Job, partial: Path, on_progress: OnProgress | None) -> None:
    """Append the images that are not there yet, then complete the description."""
    partial.mkdir(exist_ok=True)
    if partial.is_symlink():  # others may have put it there, to have other files written
        raise NoFileError(errno.EEXIST, "it is a link", str(partial))
    _forget_another(job, partial)
    paths = (partial / packed.IMAGES, partial / packed.INDEX)
    files, manifest = job.images, job.manifest
    with open_own(paths[0], "ab+") as images, open_own(paths[1], "ab+") as index:
        for first in range(_whole(images, index, files), len(files), BLOCK):
            numbers = range(first, min(first + BLOCK, len(files)))
            start = images.tell()
            rows = _block(job, files, images, numbers, on_progress)
            flush_file(images)
            index.write(np.array(rows, packed.row_type(manifest.name_bytes)).tobytes())
            flush_file(index)
            size = (images.tell() - start) / len(numbers)
            _check_room(partial, size * (len(files) - numbers.stop))
    digest = hashlib.sha256(paths[1].read_bytes()).hexdigest()
    whole = manifest.model_copy(update={"index_hash": digest})
    write_file(partial / packed.MANIFEST, whole.to_json())
    open_pack(partial)  # which refuses what is not whole


Row = tuple[int, int, bytes, bytes]


def _block(
    job: Job, files: Files, images: IO[bytes], numbers: range, on_progress: OnProgress | None
) -> list[Row]:
    """Write a block of images, and return their rows of the index."""

    def convert(number: int) -> bytes:
        with decoded_again(files, number):
            content = files.read(number, "packing began")
            return packed_jpeg(content, job.side, job.quality, turn=job.source.upright)

    def say(done: int, _of: int) -> None:
        if on_progress is not None:
            on_progress(numbers.start + done, len(files))

    rows: list[Row] = []
    for number, content in zip(
        numbers, in_threads(convert, numbers, job.workers, say), strict=True
    ):
        images.write(content)
        digest = hashlib.sha256(content).digest()
        rows.append((len(content), files.labels[number], digest, files.paths[number]))
    return rows


def _forget_another(job: Job, partial: Path) -> None:
    """Remove what an interrupted job left that would have made another pack.

    Raises:
        DataError: the folder holds files that no such job has left.
    """
    # A description that was about to be written has a hidden name.
    if any(not path.name.startswith(f".{packed.MANIFEST}") for path in partial.iterdir()):
        try:
            found = packed.read_manifest(partial)
        except (DataError, FileNotFoundError):
            raise DataError(f"{partial} holds files of yours: move it away") from None
        if job.makes(found):
            return
    for name in (packed.IMAGES, packed.INDEX):
        (partial / name).unlink(missing_ok=True)
    write_file(partial / packed.MANIFEST, job.manifest.to_json())


def _whole(images: IO[bytes], index: IO[bytes], files: Files) -> int:
    """Return how many images are there, and cut off what is behind them.

    A loss of power, or a disk, can leave less, zeros or anything else at the end of either file:
    each image is compared with its row, and its row with what it should be.
    """
    kind, done, end = packed.row_type(files.paths.dtype.itemsize), 0, 0
    for file in (images, index):
        file.seek(0)
    for label, name in zip(files.labels, files.paths, strict=True):
        content = index.read(kind.itemsize)
        if len(content) < kind.itemsize:
            break
        row = np.frombuffer(content, kind)[0]
        size = int(row["size"])
        if (row["label"], row["name"]) != (label, name) or not 0 < size <= MOST_BYTES:
            break
        if not packed.holds(row, images.read(size)):
            break
        done, end = done + 1, end + size
    images.truncate(end)
    index.truncate(done * kind.itemsize)
    for file in (images, index):
        file.seek(0, io.SEEK_END)
    return done


def packed_jpeg(content: bytes, side: int, quality: int, *, turn: bool) -> bytes:
    """Return an image's file as it goes into a pack; raises whatever the decoder likes.

    Args:
        turn: whether the image is turned as its EXIF data say.
    """
    opened = open_rgb(content)
    image = upright(opened) if turn else opened[0]
    turned = turn and opened[1] != 1
    if side and min(image.size) > side:
        image = reduced(image, side)
    elif not turned and _ordinary(content):
        return content
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _ordinary(content: bytes) -> bool:
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        return image.format == "JPEG" and image.mode in ORDINARY


def _check_room(folder: Path, needed: float) -> None:
    """Refuse to go on, before a disk is full, if it is too small."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"no space in {folder}: about {needed / 1e9:,.1f} GB more are needed, and "
            f"{free / 1e9:,.1f} GB are free; {CONTINUES}"
        )
