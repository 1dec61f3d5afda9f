"""What a pack says of itself, and whether its bytes are what was written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dia_repro.data.dataset import DataError, OnProgress
from dia_repro.data.opening import Facts, facts_of, read_file
from dia_repro.experiments.names import PACKED

FORMAT = 1
SHARD = 8192  # images in a file: part of the format, since the content's hash is made file by file
MANIFEST = "pack.json"


class Shard(BaseModel):
    """One file of a pack.

    Attributes:
        file: its name.
        images: how many it holds.
        size, sha256: of the file, in bytes.
        content: SHA-256 over names, labels and JPEG files, whatever Arrow puts around them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    file: str = Field(pattern=r"^(train|test)-\d{5}\.arrow$")
    images: int = Field(ge=1, le=SHARD)
    size: int = Field(ge=1)
    sha256: str
    content: str


class Manifest(BaseModel):
    """What `pack.json` holds.

    Attributes:
        source: what was packed: `imagenet`, or `folder:NAME`.
        source_hash: content hash of that.
        side: what the shorter side was reduced to, in pixels; 0 for images as they are.
        quality: of the JPEG files that were written anew.
        classes: names, in order of their labels.
        train, test: the files of each split, in order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    format: int
    source: str
    source_hash: str
    side: int = Field(ge=0)
    quality: int = Field(ge=1, le=100)
    classes: tuple[str, ...]
    train: tuple[Shard, ...] = Field(min_length=1)
    test: tuple[Shard, ...] = Field(min_length=1)

    @property
    def name(self) -> str:
        """Of the data, as in a spec: of what was done to them, wherever they lie."""
        return PACKED + label_of(self.source, self.side, self.quality)

    @property
    def content_hash(self) -> str:
        """SHA-256 over all images, their names and labels, in order."""
        digest = hashlib.sha256(f"{FORMAT} {len(self.classes)}\n".encode())
        for split in (self.train, self.test):
            for shard in split:
                digest.update(f"{shard.content} {shard.images}\n".encode())
            digest.update(b"\n")
        return digest.hexdigest()

    def to_json(self) -> str:
        """With a checksum of its own."""
        fields = self.model_dump(mode="json")
        return json.dumps({**fields, "checksum": _checksum(fields)}, indent=1) + "\n"


def label_of(source: str, side: int, quality: int) -> str:
    """E.g. "imagenet-256-q90", "pets-full-q90": what a pack is called."""
    return f"{source.removeprefix('folder:')}-{side or 'full'}-q{quality}"


def read_manifest(root: Path) -> Manifest:
    """What a pack says of itself; all its files are there, as long as they should be.

    Raises:
        DataError: it is no pack, not complete, damaged, or of another version.
    """
    path = root / MANIFEST
    try:
        if not root.is_dir():
            raise DataError(f"there is no pack {root}: 'dia-repro data pack' makes one")
        if not path.is_file():
            raise DataError(f"{root} is not a pack: it has no {MANIFEST}")
        fields = json.loads(read_file(path))
    except OSError as error:
        raise DataError(f"cannot read {root}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: pack the images again") from error
    manifest = _parsed(path, fields)
    for shard in (*manifest.train, *manifest.test):
        _check_size(root, shard)
    return manifest


def _parsed(path: Path, fields: Any) -> Manifest:
    written = fields.get("format") if isinstance(fields, dict) else None
    if isinstance(written, int) and written != FORMAT:
        other = "a newer" if written > FORMAT else "another"
        raise DataError(
            f"{path.parent} was packed by {other} dia-repro (format {written}, not {FORMAT}): "
            "pack the images again"
        )
    try:
        checksum = fields.pop("checksum")
        manifest = Manifest.model_validate_json(json.dumps(fields))
    except (AttributeError, KeyError, TypeError, ValidationError) as error:
        raise DataError(f"{path} is damaged: pack the images again") from error
    if checksum != _checksum(fields):
        raise DataError(f"{path} was changed by hand: pack the images again")
    return manifest


def _checksum(fields: dict[str, Any]) -> str:
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _check_size(root: Path, shard: Shard) -> None:
    path = root / shard.file
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if size != shard.size:
        raise DataError(
            f"{path} is damaged: it has {size:,} bytes instead of {shard.size:,}; "
            "pack the images again"
        )


def verify(root: Path, manifest: Manifest, on_progress: OnProgress | None = None) -> None:
    """Read every byte of a pack.

    Raises:
        DataError: some are not what was written.
    """
    shards = (*manifest.train, *manifest.test)
    done, total = 0, sum(shard.images for shard in shards)
    for shard in shards:
        if file_hash(root / shard.file) != shard.sha256:
            raise DataError(
                f"{root / shard.file} is damaged: its bytes are not those that were written; "
                "pack the images again"
            )
        done += shard.images
        if on_progress is not None:
            on_progress(done, total)


def file_hash(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def shard_facts(root: Path, manifest: Manifest) -> tuple[Facts, ...]:
    """What `facts_of` gives for each file of a pack.

    Raises:
        DataError: one is not there, or cannot be read.
    """
    paths = [root / shard.file for shard in (*manifest.train, *manifest.test)]
    try:
        return tuple(facts_of(path.stat()) for path in paths)
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror or error}") from error


def _note(root: Path, manifest: Manifest, facts: Sequence[Facts], memory: Path) -> Path:
    """Where it is remembered; another name once a file has changed."""
    digest = hashlib.sha256(b"pack\0" + os.fsencode(root.resolve()) + b"\0")
    for shard, its_facts in zip((*manifest.train, *manifest.test), facts, strict=True):
        digest.update(f"{shard.file} {shard.sha256} {its_facts}\n".encode())
    return memory / f"{digest.hexdigest()[:32]}.pack"


def remember(root: Path, manifest: Manifest, facts: Sequence[Facts], memory: Path) -> None:
    """That every byte of files with these facts is what was written."""
    try:
        memory.mkdir(parents=True, exist_ok=True)
        _note(root, manifest, facts, memory).touch()
    except OSError:  # looked at again next time
        return


def remembered(root: Path, manifest: Manifest, facts: Sequence[Facts], memory: Path) -> bool:
    """Whether it is known of these very files."""
    try:
        return _note(root, manifest, facts, memory).is_file()
    except OSError:
        return False
