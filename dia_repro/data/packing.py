"""From class folders to a pack: every image decoded, reduced and compressed again, once.

An image whose shorter side is no longer than asked for, and that is an ordinary JPEG file, goes
into the pack as it is. Others are reduced as evaluation does it (bilinear, shorter side), so that
what is tested on differs by the compression alone.

Files are written under other names into a folder of another name, which gets its own when all of
it is on the disk: there is no half a pack. What was interrupted goes on after the last whole file.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from PIL import Image

from dia_repro.data.dataset import DataError
from dia_repro.data.decoding import reduced
from dia_repro.data.folder import Files, ImageFolder, scan
from dia_repro.data.imagenet import load_imagenet
from dia_repro.data.inspection import MEMORY, OnProgress, inspect, sound
from dia_repro.data.manifest import (
    FORMAT,
    MANIFEST,
    SHARD,
    Manifest,
    Shard,
    file_hash,
    label_of,
    read_manifest,
    remember,
)
from dia_repro.data.opening import in_threads, open_rgb, upright
from dia_repro.data.own import choose_folder, resolved
from dia_repro.data.packed import COLUMNS, require_pyarrow
from dia_repro.data.streaming import StreamedDataset

if TYPE_CHECKING:
    import pyarrow as pa

LOCK = "lock"
FOLDER = "packed"  # inside the folder of downloaded data sets
BATCH_BYTES, BATCH_IMAGES = 1 << 26, 1024  # of a record batch: what is held before it is written
ORDINARY = ("RGB", "L")  # modes of a JPEG file that every decoder reads alike
STEP = 64  # images between two words of progress


@dataclass(frozen=True)
class Job:
    """What is to be packed, and how.

    Attributes:
        source: the images; damaged ones are left out already.
        classes: their names.
        target: the pack's folder.
        side: what the shorter side is reduced to, in pixels; 0 leaves all as they are.
        quality: of JPEG files that are written anew, 1 to 100.
        workers: threads that decode and compress.
    """

    source: StreamedDataset
    classes: tuple[str, ...]
    target: Path
    side: int
    quality: int
    workers: int

    @property
    def facts(self) -> dict[str, str]:
        """What a file of the pack depends on, apart from its images' places."""
        return {
            "format": str(FORMAT),
            "source": self.source.name,
            "source_hash": self.source.content_hash,
            "side": str(self.side),
            "quality": str(self.quality),
        }


def imagenet_source(
    data: Path, on_progress: OnProgress | None = None
) -> tuple[StreamedDataset, tuple[str, ...]]:
    """ImageNet and the names of its classes.

    Raises:
        DataError: it is not there, not complete, or has damaged images.
    """
    source = load_imagenet(0, data, on_progress)
    assert isinstance(source.files, ImageFolder)  # noqa: S101 - which is how it is read
    return source, source.files.classes


def folder_source(
    path: Path, data: Path, *, skip_damaged: bool, on_progress: OnProgress | None = None
) -> tuple[StreamedDataset, tuple[str, ...]]:
    """A user's own images and the names of their classes.

    Raises:
        DataError: they are not there, not laid out so, or some are damaged.
    """
    path = resolved(path)
    choice = choose_folder(path, None, data, skip_damaged=skip_damaged, on_progress=on_progress)
    found = scan(path)
    kept = sound(found, inspect(found, data / MEMORY), skip_damaged=skip_damaged)
    digest = choice.spec.content_hash or ""
    return StreamedDataset(choice.spec.dataset, kept, choice.spec.image_size, digest), kept.classes


def default_target(data: Path, source: str, side: int, quality: int) -> Path:
    """Where a pack goes unless told otherwise."""
    return data / FOLDER / label_of(source, side, quality)


def pack(job: Job, memory: Path, on_progress: OnProgress | None = None) -> tuple[Manifest, bool]:
    """Write a pack, or find it there.

    Args:
        memory: the folder in which it is remembered that its bytes are sound.
        on_progress: called with images done and images in all.

    Returns:
        What it says of itself, and whether it was there already.

    Raises:
        AbsentError: pyarrow is not installed.
        DataError: another pack is there, an image cannot be decoded any more, or the disk is full.
    """
    require_pyarrow()
    if job.target.exists():
        return _found(job), True
    partial = job.target.with_name(f"{job.target.name}.partial")
    with _writing(partial):
        partial.mkdir(parents=True, exist_ok=True)
        with _alone(job, partial):
            manifest = _pack(job, partial, on_progress)
            (partial / LOCK).unlink(missing_ok=True)
            partial.rename(job.target)
            _sync(job.target.parent)
    remember(job.target, manifest, memory)
    return manifest, False


@contextmanager
def _alone(job: Job, partial: Path) -> Iterator[None]:
    lock = FileLock(partial / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise DataError(f"{job.target} is being packed by another process") from None
    try:
        yield
    finally:
        lock.release()


def _found(job: Job) -> Manifest:
    manifest = read_manifest(job.target)
    known = (manifest.source, manifest.source_hash, manifest.side, manifest.quality)
    if known != (job.source.name, job.source.content_hash, job.side, job.quality):
        raise DataError(f"{job.target} holds another pack: delete it, or give another with --out")
    return manifest


@contextmanager
def _writing(partial: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "no space left; what is done is kept, and the same command goes on from there"
        else:
            reason = error.strerror or str(error)
        raise DataError(f"cannot write {partial}: {reason}") from error


def _pack(job: Job, partial: Path, on_progress: OnProgress | None) -> Manifest:
    total = job.source.training_images + job.source.test_images
    progress = _Progress(total, on_progress)
    splits: dict[str, list[Shard]] = {}
    for name, split in (("train", job.source.files.train), ("test", job.source.files.test)):
        assert isinstance(split, Files)  # noqa: S101 - what a job's source has
        splits[name] = []
        for number, first in enumerate(range(0, len(split), SHARD)):
            path = partial / f"{name}-{number:05d}.arrow"
            places = range(first, min(first + SHARD, len(split)))
            shard = _existing(job, path, split, places)
            if shard is None:
                shard = _write(job, path, split, places, progress)
                written = shard.size / shard.images
                _check_room(partial, written * (total - progress.done - shard.images))
            progress.add(len(places))
            splits[name].append(shard)
    manifest = Manifest(
        format=FORMAT,
        source=job.source.name,
        source_hash=job.source.content_hash,
        side=job.side,
        quality=job.quality,
        classes=job.classes,
        train=tuple(splits["train"]),
        test=tuple(splits["test"]),
    )
    with _replacing(partial / MANIFEST) as file:
        file.write(manifest.to_json().encode())
    return manifest


class _Progress:
    """Images done, in whole files and in the one that is being written."""

    def __init__(self, total: int, on_progress: OnProgress | None) -> None:
        self.total, self.on_progress, self.done = total, on_progress, 0

    def add(self, images: int) -> None:
        self.done += images
        self.say(0)

    def say(self, more: int) -> None:
        if self.on_progress is not None:
            self.on_progress(self.done + more, self.total)


def _check_room(folder: Path, needed: float) -> None:
    """Say that a disk is too small before it is full."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"no space in {folder}: about {needed / 1e9:,.1f} GB more are needed, and "
            f"{free / 1e9:,.1f} GB are free; what is done is kept, and the same command goes on "
            "from there"
        )


def _write(job: Job, path: Path, split: Files, places: range, progress: _Progress) -> Shard:
    """One file of the pack."""
    import pyarrow as pa

    schema = _schema(job)
    content = hashlib.sha256()
    root = job.source.files.root

    def convert(place: int) -> bytes:
        return packed_jpeg(split.file(root, place), job.side, job.quality, turn=job.source.upright)

    with _replacing(path) as file, pa.ipc.new_file(file, schema) as writer:
        rows: list[tuple[bytes, int, bytes]] = []
        held = 0
        images = in_threads(convert, places, job.workers)
        for done, (place, image) in enumerate(zip(places, images, strict=True), start=1):
            row = (bytes(split.paths[place]), int(split.labels[place]), image)
            content.update(_line(*row))
            rows.append(row)
            held += len(image)
            if held >= BATCH_BYTES or len(rows) == BATCH_IMAGES:
                writer.write_batch(_batch(rows, schema))
                rows, held = [], 0
            if done % STEP == 0:
                progress.say(done)
        if rows:
            writer.write_batch(_batch(rows, schema))
    return Shard(
        file=path.name,
        images=len(places),
        size=path.stat().st_size,
        sha256=file_hash(path),
        content=content.hexdigest(),
    )


def _schema(job: Job) -> pa.Schema:
    import pyarrow as pa

    types = (pa.large_binary(), pa.int64(), pa.large_binary())
    fields = [
        pa.field(name, kind, nullable=False) for name, kind in zip(COLUMNS, types, strict=True)
    ]
    return pa.schema(fields, metadata=job.facts)


def _batch(rows: list[tuple[bytes, int, bytes]], schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    columns = zip(*rows, strict=True)
    arrays = [pa.array(one, field.type) for one, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _line(name: bytes, label: int, image: bytes) -> bytes:
    """What an image adds to the content's hash."""
    return name + f"\0{label} {hashlib.sha256(image).hexdigest()}\n".encode()


def _existing(job: Job, path: Path, split: Files, places: range) -> Shard | None:
    """A file that an interrupted attempt has finished, if it is what would be written now."""
    import pyarrow as pa

    if not path.is_file():
        return None
    content, found = hashlib.sha256(), 0
    try:
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_file(file)
            if reader.schema.metadata != {k.encode(): v.encode() for k, v in job.facts.items()}:
                return None
            for number in range(reader.num_record_batches):
                columns = [column.to_pylist() for column in reader.get_batch(number).columns]
                for name, label, image in zip(*columns, strict=True):
                    if found == len(places) or name != bytes(split.paths[places[found]]):
                        return None
                    content.update(_line(name, label, image))
                    found += 1
    except (pa.ArrowException, OSError, ValueError):
        return None
    if found != len(places):
        return None
    return Shard(
        file=path.name,
        images=found,
        size=path.stat().st_size,
        sha256=file_hash(path),
        content=content.hexdigest(),
    )


def packed_jpeg(path: Path | io.BytesIO, side: int, quality: int, *, turn: bool) -> bytes:
    """An image's file as it goes into a pack.

    Args:
        turn: whether the image is turned as its EXIF data say.

    Raises:
        DataError: it cannot be decoded.
    """
    try:
        content = path.read_bytes() if isinstance(path, Path) else path.getvalue()
        opened = open_rgb(io.BytesIO(content))
        as_it_is = _ordinary(content)
    except Exception as error:  # decoders raise what they like
        raise DataError(f"{path} cannot be decoded any more: {error}") from error
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
    with Image.open(io.BytesIO(content)) as image:
        return image.format == "JPEG" and image.mode in ORDINARY


@contextmanager
def _replacing(path: Path) -> Iterator[Any]:
    """A file that gets its name when all of it is on the disk."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
        _sync(path.parent)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
