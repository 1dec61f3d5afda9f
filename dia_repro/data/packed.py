"""Images packed into a few large files: what `packing` writes, opened and read.

A pack is a folder: `pack.json`, which says what is in it, and for each split Arrow IPC files of up
to `SHARD` images, a row an image: its name, its label and its JPEG file. They are mapped into
memory: an image is a slice of it, found by its number, and processes that are forked share it.

Since pixels were resized and compressed again, what is trained on a pack is another experiment
than on its originals: its name begins with `packed:`, and it carries a hash of the packed images.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dia_repro.data.dataset import DataError, OnProgress
from dia_repro.data.inspection import MEMORY
from dia_repro.data.manifest import (
    Manifest,
    read_manifest,
    remember,
    remembered,
    shard_facts,
    verify,
)
from dia_repro.data.opening import Facts, same_file
from dia_repro.data.streaming import RESIZE_RATIO, StreamedDataset
from dia_repro.errors import AbsentError
from dia_repro.experiments.names import DataLocation
from dia_repro.experiments.protocols import LARGEST_LIKE_CIFAR, DataChoice, own_images
from dia_repro.experiments.spec import DataSpec

COLUMNS = ("name", "label", "image")
DEFAULT_SIDE = 224  # that networks see of images that were not resized


@dataclass(frozen=True)
class PackedSplit:
    """One split of a pack.

    Attributes:
        paths: of its files.
        labels: (N,) int64.
        indices: (N,) of each image in the files; None where it is its own number.
    """

    paths: tuple[Path, ...]
    batches: tuple[_Batch, ...]
    starts: np.ndarray
    labels: np.ndarray
    indices: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __reduce__(self) -> tuple[Callable[..., PackedSplit], tuple[object, ...]]:
        return _reopened, (self.paths, self.indices)  # memory that is mapped cannot be pickled

    def jpeg(self, index: int) -> np.ndarray:
        """An image's file, (bytes,) uint8, read-only: the mapped memory itself."""
        batch, row = self._find(index)
        return batch.image(row)

    def describe(self, index: int) -> str:
        """An image's name and index, for messages."""
        batch, row = self._find(index)
        return f"{batch.name(row)} in {batch.path}"

    def at(self, indices: np.ndarray) -> PackedSplit:
        """Some of the images."""
        own = indices if self.indices is None else self.indices[indices]
        return replace(self, labels=self.labels[indices], indices=own)

    def _find(self, index: int) -> tuple[_Batch, int]:
        row = index if self.indices is None else int(self.indices[index])
        batch = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.batches[batch], row - int(self.starts[batch])


@dataclass(frozen=True)
class _Batch:
    """Some rows of a file, as views of mapped memory: no library is called to read them."""

    path: Path
    name_ends: np.ndarray
    names: np.ndarray
    image_ends: np.ndarray
    images: np.ndarray

    def image(self, row: int) -> np.ndarray:
        return self.images[self.image_ends[row] : self.image_ends[row + 1]]

    def name(self, row: int) -> str:
        return os.fsdecode(self.names[self.name_ends[row] : self.name_ends[row + 1]].tobytes())


@dataclass(frozen=True)
class Pack:
    """An opened pack.

    Attributes:
        root: its folder.
        facts: of each file, what `facts_of` gave before its bytes were looked at.
    """

    root: Path
    manifest: Manifest
    facts: tuple[Facts, ...]
    train: PackedSplit
    test: PackedSplit

    def check_unchanged(self) -> None:
        """See that no file has changed since the pack was opened.

        Raises:
            DataError: one has, or is not there.
        """
        shards = (*self.manifest.train, *self.manifest.test)
        found = shard_facts(self.root, self.manifest)
        for shard, before, after in zip(shards, self.facts, found, strict=True):
            if not same_file(before, after):
                path = self.root / shard.file
                raise DataError(f"{path} has changed since the run began: start again")


def require_pyarrow() -> None:
    """Find out whether what reads and writes packs is installed.

    Raises:
        AbsentError: it is not; the message names the extra.
    """
    try:
        import pyarrow  # noqa: F401
    except ModuleNotFoundError as error:
        raise AbsentError(
            "packed images need the package pyarrow: pip install 'dia-repro[pack]'"
        ) from error


def open_pack(root: Path, memory: Path, on_progress: OnProgress | None = None) -> Pack:
    """Open a pack whose every byte is what was written.

    Args:
        memory: the folder in which it is remembered that the bytes were looked at; not being able
            to write there costs time only.
        on_progress: called with images done and images in all, where they are looked at anew.

    Raises:
        AbsentError: pyarrow is not installed.
        DataError: it is no pack, not complete, damaged, or of another version.
    """
    require_pyarrow()
    manifest = read_manifest(root)
    facts = shard_facts(root, manifest)  # before the bytes are looked at
    if not remembered(root, manifest, facts, memory):
        verify(root, manifest, on_progress)
        remember(root, manifest, facts, memory)
    splits = (
        _opened(tuple(root / shard.file for shard in split))
        for split in (manifest.train, manifest.test)
    )
    pack = Pack(root, manifest, facts, *splits)
    for split, shards in ((pack.train, manifest.train), (pack.test, manifest.test)):
        if len(split) != sum(shard.images for shard in shards):
            raise DataError(f"{root} is damaged: pack the images again")
    return pack


def _opened(paths: tuple[Path, ...]) -> PackedSplit:
    batches: list[_Batch] = []
    labels: list[np.ndarray] = []
    for path in paths:
        for batch, some in _mapped(path):
            batches.append(batch)
            labels.append(some)
    sizes = [len(some) for some in labels]
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    return PackedSplit(paths, tuple(batches), starts, np.concatenate(labels))


def _reopened(paths: tuple[Path, ...], indices: np.ndarray | None) -> PackedSplit:
    split = _opened(paths)
    return split if indices is None else split.at(indices)


def _mapped(path: Path) -> list[tuple[_Batch, np.ndarray]]:
    """The record batches of a file, with their labels.

    Raises:
        DataError: it is not what `packing` writes.
    """
    import pyarrow as pa

    found = []
    try:
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_file(file)
            if tuple(reader.schema.names) != COLUMNS:
                raise DataError(f"{path} is not of a pack")
            for number in range(reader.num_record_batches):
                columns = reader.get_batch(number).columns
                (_, name_ends, names), (_, labels), (_, image_ends, images) = (
                    column.buffers() for column in columns
                )
                views = [
                    np.frombuffer(one, dtype)
                    for one, dtype in (
                        (name_ends, np.int64),
                        (names, np.uint8),
                        (image_ends, np.int64),
                        (images, np.uint8),
                    )
                ]
                rows = len(columns[1])
                found.append((_Batch(path, *views), np.frombuffer(labels, np.int64)[:rows].copy()))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: it is damaged; pack the images again") from error
    return found


def choose_packed(
    path: Path, image_size: int | None, root: Path, on_progress: OnProgress | None = None
) -> DataChoice:
    """Open a pack, and say what an experiment on it is.

    Args:
        path: its folder.
        image_size: side in pixels of what networks see; None takes 7/8 of the side that images
            were reduced to (224 of 256), or 224 of images as they are.
        root: the folder of downloaded data sets, where the look is remembered.

    Raises:
        AbsentError: pyarrow is not installed.
        DataError: it is no pack, not complete, damaged, of another version, or too small.
    """
    pack = open_pack(path, root / MEMORY, on_progress)
    manifest = pack.manifest
    size = image_size or (round(manifest.side / RESIZE_RATIO) if manifest.side else DEFAULT_SIDE)
    if manifest.side and size > manifest.side:
        raise DataError(
            f"{path} holds images of {manifest.side} pixels, too few for --image-size {size}"
        )
    if size <= LARGEST_LIKE_CIFAR:
        raise DataError(
            f"packed images are for more than {LARGEST_LIKE_CIFAR} pixels: smaller ones are held "
            "in memory decoded, and trained on from where they were"
        )
    spec = own_images(manifest.name, len(manifest.classes), size, manifest.content_hash)
    return DataChoice(spec, len(pack.train), path)


def load(
    spec: DataSpec, location: DataLocation, on_progress: OnProgress | None = None
) -> StreamedDataset:
    """The packed images that a spec was made for.

    Raises:
        AbsentError: pyarrow is not installed.
        DataError: they are not there, damaged, or not the same.
    """
    if location.folder is None:
        raise DataError(f"{spec.dataset} is not on this machine: give its path with --dataset")
    pack = open_pack(location.folder, location.root / MEMORY, on_progress)
    if pack.manifest.content_hash != spec.content_hash:
        raise DataError(f"the images in {location.folder} are not those that the run was asked for")
    return StreamedDataset(spec.dataset, pack, spec.image_size, pack.manifest.content_hash)
