"""Images that were reduced and packed into one large file (`--dataset packed:PATH`).

A pack is a folder of three files, which `packing` writes. `images` contains JPEG files one after
the other, those for training first. `index` has a row of fixed width for each of them: size, label,
SHA-256 and name. `pack.json` describes what was packed and how. An image is one read at a known
position, and is compared with its SHA-256 whenever it is read.

The format is our own because databases read worse. LMDB maps its file into memory: a file cut short
kills the process that reads it. SQLite reads an image page by page, in 3 to 10 reads.

Since pixels were resized and compressed again, what is trained on a pack is another experiment
than on its originals: its name begins with `packed:`, and it carries a hash of the packed images.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from dia_repro.data import registry
from dia_repro.data.dataset import RESIZE_RATIO, StreamedDataset
from dia_repro.data.opening import MOST_BYTES, UnfitImageError, open_at_once, read_file
from dia_repro.data.registry import DataChoice, DataError, Findings, OnProgress, reading
from dia_repro.data.threads import in_threads
from dia_repro.experiments.names import FOLDER, LARGEST_SIDE, PACKED, DataLocation
from dia_repro.experiments.spec import DataSpec

FORMAT = 3
MANIFEST, INDEX, IMAGES = "pack.json", "index", "images"
MOST_MANIFEST_BYTES = 1 << 24  # a hundred thousand classes with long names
MOST_INDEX_BYTES = 1 << 32  # forty times ImageNet's
DEFAULT_SIDE = 224  # that networks see of images that were not resized
AGAIN = "delete it and pack the images again"


def _distinct(classes: tuple[str, ...]) -> tuple[str, ...]:
    if "" in classes or len(set(classes)) < len(classes):
        raise ValueError("a class has no name, or that of another")
    return classes


class Manifest(BaseModel):
    """Description of a pack, which `pack.json` contains with a hash of all of it.

    Attributes:
        source: name of the data that were packed: `imagenet`, or `folder:NAME`.
        source_hash: their content hash.
        side: shorter side that larger images were reduced to, in pixels; 0 for images as they are.
        quality: quality of the JPEG files that were compressed again.
        classes: names, all different, in order of their labels; both splits have images of each.
        train, test: number of images.
        name_bytes: width of a name in the index.
        index_hash: SHA-256 of the index, which contains those of the images; "" until it is whole.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    format: Literal[3] = 3
    source: str
    source_hash: str
    side: int = Field(ge=0, le=LARGEST_SIDE)
    quality: int = Field(ge=1, le=100)
    classes: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_distinct)]
    train: int = Field(ge=1)
    test: int = Field(ge=1)
    name_bytes: int = Field(ge=1, le=1 << 12)
    index_hash: str = ""

    @property
    def name(self) -> str:
        """Name of the data, as in a spec."""
        return PACKED + label_of(self.source, self.side, self.quality)

    @property
    def content_hash(self) -> str:
        """SHA-256 over all images, their names and labels, in order."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> bytes:
        """Return it with its hash."""
        fields = {**self.model_dump(mode="json"), "content_hash": self.content_hash}
        return json.dumps(fields, indent=1).encode() + b"\n"


def label_of(source: str, side: int, quality: int) -> str:
    """Return what a pack is called, e.g. "imagenet-256-q90", "pets-full-q90"."""
    return f"{source.removeprefix(FOLDER)}-{side or 'full'}-q{quality}"


def row_type(name_bytes: int) -> np.dtype[Any]:
    """Return the type of a row of the index."""
    return np.dtype(
        [("size", "<i8"), ("label", "<i8"), ("sha256", "V32"), ("name", f"S{name_bytes}")]
    )


def damaged(what: object, reason: str) -> DataError:
    """Return the refusal of a file of a pack, or of an image in it."""
    return DataError(f"{what} is damaged: {reason}; {AGAIN}")


def holds(row: np.void, content: bytes) -> bool:
    """Return whether these are the bytes of a row's image."""
    digest: bytes = row["sha256"].tobytes()
    return hashlib.sha256(content).digest() == digest


class ImagesFile:
    """File of all images; each process that it is sent to opens it for itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = open(path, "rb", buffering=0, opener=open_at_once)  # noqa: SIM115

    def __reduce__(self) -> tuple[type[ImagesFile], tuple[Path]]:
        return ImagesFile, (self.path,)

    def __len__(self) -> int:
        return os.fstat(self.file.fileno()).st_size


@dataclass(frozen=True)
class PackedSplit:
    """One split: a `Split` of packed images.

    Attributes:
        rows: (N,) of the index.
        starts: (N,) positions of the images in bytes.
    """

    images: ImagesFile
    rows: np.ndarray
    starts: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64."""
        labels: np.ndarray = self.rows["label"]
        return labels

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> bytes:
        """Return an image's JPEG file, which has the bytes that were packed; see `Split`."""
        row = self.rows[index]
        # Fewer bytes where the file ends.
        content = os.pread(self.images.file.fileno(), int(row["size"]), int(self.starts[index]))
        if not holds(row, content):
            raise damaged(self.describe(index), "its bytes are not those that were packed")
        return content

    def describe(self, index: int) -> str:
        """Return an image's name, for messages."""
        return f"{os.fsdecode(self.rows[index]['name'])} in {self.images.path}"

    def at(self, indices: np.ndarray | slice) -> PackedSplit:
        """Return some of the images."""
        return PackedSplit(self.images, self.rows[indices], self.starts[indices])


@dataclass(frozen=True)
class Pack:
    """Opened pack."""

    manifest: Manifest
    train: PackedSplit
    test: PackedSplit


def open_pack(root: Path) -> Pack:
    """Open a pack whose index is what was written; images are compared when they are read.

    Raises:
        DataError: it is no pack, not complete, damaged, or of another version.
    """
    try:
        with reading(root):
            if not root.is_dir():
                raise DataError(f"there is no pack {root}: 'dia-repro data pack' makes one")
            if not (root / MANIFEST).is_file():
                raise DataError(f"{root} is not a pack: it has no {MANIFEST}")
            manifest = read_manifest(root)
            rows = _index(root / INDEX, manifest)
            images = ImagesFile(root / IMAGES)
    except UnfitImageError as error:
        raise damaged(root / INDEX, str(error)) from error
    ends = np.cumsum(rows["size"])
    if len(images) != ends[-1]:
        raise damaged(root / IMAGES, f"it has {len(images):,} bytes instead of {ends[-1]:,}")
    both = PackedSplit(images, rows, ends - rows["size"])
    train, test = slice(manifest.train), slice(manifest.train, None)
    return Pack(manifest, both.at(train), both.at(test))


def read_manifest(root: Path) -> Manifest:
    """Return the description of a pack, which may be one that is being written.

    Raises:
        DataError: it is damaged, or of another version.
        OSError: it cannot be read.
    """
    path = root / MANIFEST
    try:
        fields = json.loads(read_file(path, most=MOST_MANIFEST_BYTES))
        written = fields.get("format")
        if isinstance(written, int) and written != FORMAT:
            other = "a newer" if written > FORMAT else "an earlier"
            raise DataError(
                f"{root} was packed by {other} dia-repro (format {written}, not {FORMAT}): {AGAIN}"
            )
        digest = fields.pop("content_hash")
        # Not as JSON, where names of folders that are no UTF-8 would be refused.
        manifest = Manifest.model_validate({**fields, "classes": tuple(fields["classes"])})
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise damaged(path, "not what is written there") from error
    if digest != manifest.content_hash:
        raise DataError(f"{path} was changed by hand: {AGAIN}")
    return manifest


def _index(path: Path, manifest: Manifest) -> np.ndarray:
    """Return the rows of an index, (N,); refuse one that dia-repro does not write."""
    kind, total = row_type(manifest.name_bytes), manifest.train + manifest.test
    content = read_file(path, most=min(total * kind.itemsize, MOST_INDEX_BYTES))
    if len(content) != total * kind.itemsize:
        raise damaged(path, f"it has {len(content):,} bytes")
    rows = np.frombuffer(content, kind)
    fit = 1 <= rows["size"].min() <= rows["size"].max() <= MOST_BYTES
    every = np.arange(len(manifest.classes))
    for split in (rows[: manifest.train], rows[manifest.train :]):
        fit = fit and np.array_equal(np.unique(split["label"]), every)
    if not fit or hashlib.sha256(content).hexdigest() != manifest.index_hash:
        raise damaged(path, "its bytes are not those that were written")
    return rows


def choose_packed(
    path: Path,
    image_size: int | None,
    _location: DataLocation,
    _on_progress: OnProgress | None = None,
    _remark: object = None,
) -> DataChoice:
    """Open a pack, and return what an experiment on it is: see `Choose`.

    Args:
        image_size: side in pixels of what networks see; None takes 7/8 of the side that images
            were reduced to (224 of 256), or 224 of images as they are.
    """
    pack = open_pack(path)
    manifest = pack.manifest
    size = image_size or (round(manifest.side / RESIZE_RATIO) if manifest.side else DEFAULT_SIDE)
    if manifest.side and size > manifest.side:
        raise DataError(
            f"{path} holds images of {manifest.side} pixels, too few for --image-size {size}"
        )
    if size <= registry.LARGEST_LIKE_CIFAR:
        raise DataError(
            f"packed images are for more than {registry.LARGEST_LIKE_CIFAR} pixels: "
            "train on smaller ones with --dataset folder:PATH"
        )
    classes, content = len(manifest.classes), manifest.content_hash
    spec = registry.own_images(manifest.name, classes, size, content)
    return DataChoice(spec, len(pack.train), path)


def load(
    spec: DataSpec, location: DataLocation, _on_progress: OnProgress | None = None
) -> StreamedDataset:
    """Return the packed images that a spec was made for, and no others."""
    folder = registry.own_folder(spec, location)
    pack = open_pack(folder)
    digest, classes = pack.manifest.content_hash, pack.manifest.classes
    if digest != spec.content_hash:
        raise DataError(f"the images in {folder} are not those that the run was asked for")
    size = spec.image_size
    return StreamedDataset(spec.dataset, pack.train, pack.test, size, digest, classes, packed=True)


def check(path: Path, _location: DataLocation, on_progress: OnProgress | None) -> Findings:
    """Read every byte of a pack, and refuse one that is damaged."""
    pack = open_pack(path)
    manifest, total = pack.manifest, len(pack.train) + len(pack.test)

    def look(number: int) -> None:
        behind = number - len(pack.train)
        pack.train.read(number) if behind < 0 else pack.test.read(behind)

    for _ in in_threads(look, range(total), on_progress=on_progress):
        pass
    there = (
        f"{path}: {manifest.name}, {len(manifest.classes):,} classes, {manifest.train:,} training "
        f"and {manifest.test:,} test images; content hash {manifest.content_hash[:16]}"
    )
    return Findings((there,))


registry.register(registry.Source(PACKED, load, choose=choose_packed, check=check))
