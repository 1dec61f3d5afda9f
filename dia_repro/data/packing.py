"""From class folders to a pack: every image decoded, reduced and compressed again, once.

An image whose shorter side is no longer than asked for, and that is an ordinary JPEG file, goes
into the pack as it is. Others are reduced as evaluation does it (bilinear, shorter side), so that
what is tested on differs by the compression alone.

Files are written under other names into a folder of another name, which gets its own when all of
it is on the disk: there is no half a pack. What was interrupted goes on after the last whole file.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from dia_repro.atomic import publish, replacing
from dia_repro.data.dataset import DataError, OnProgress
from dia_repro.data.folder import Files, ImageFolder, scan
from dia_repro.data.imagenet import load_imagenet
from dia_repro.data.inspection import MEMORY, inspect, sound
from dia_repro.data.manifest import (
    FORMAT,
    MANIFEST,
    SHARD,
    Manifest,
    Shard,
    label_of,
    read_manifest,
    remember,
    shard_facts,
)
from dia_repro.data.own import choose_folder, resolved
from dia_repro.data.packed import require_pyarrow
from dia_repro.data.shards import Job, existing_shard, write_shard
from dia_repro.data.streaming import StreamedDataset

LOCK = "lock"
FOLDER = "packed"  # inside the folder of downloaded data sets


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
            publish(partial, job.target)
    remember(job.target, manifest, shard_facts(job.target, manifest), memory)
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
            indices = range(first, min(first + SHARD, len(split)))
            shard = existing_shard(job, path, split, indices)
            if shard is None:
                shard = write_shard(job, path, split, indices, progress.say)
                written = shard.size / shard.images
                _check_room(partial, written * (total - progress.done - shard.images))
            progress.add(len(indices))
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
    with replacing([partial / MANIFEST]) as (file,):
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
