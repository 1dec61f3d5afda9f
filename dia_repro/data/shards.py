"""One file of a pack: images converted by all cores and written, or found whole from before."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from dia_repro.atomic import replacing
from dia_repro.data.dataset import DataError
from dia_repro.data.decoding import reduced
from dia_repro.data.folder import Files
from dia_repro.data.manifest import FORMAT, Shard, file_hash
from dia_repro.data.opening import FORMATS, in_threads, open_rgb, read_file, upright
from dia_repro.data.packed import COLUMNS
from dia_repro.data.streaming import StreamedDataset

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_BYTES, BATCH_IMAGES = 1 << 26, 1024  # of a record batch: what is held before it is written
ORDINARY = ("RGB", "L")  # modes of a JPEG file that every decoder reads alike


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
        """What a file of the pack depends on, apart from its images' indices."""
        return {
            "format": str(FORMAT),
            "source": self.source.name,
            "source_hash": self.source.content_hash,
            "side": str(self.side),
            "quality": str(self.quality),
        }


def write_shard(
    job: Job, path: Path, split: Files, indices: range, on_image: Callable[[int], object]
) -> Shard:
    """Convert images and write them.

    Args:
        on_image: called now and then with the images done.

    Raises:
        DataError: one cannot be decoded any more.
        OSError: the disk is full, or something else keeps it from being written.
    """
    import pyarrow as pa

    schema = _schema(job)
    content = hashlib.sha256()
    root = job.source.files.root

    def convert(index: int) -> bytes:
        try:
            image = io.BytesIO(split.read(root, index, "packing began"))
            return packed_jpeg(image, job.side, job.quality, turn=job.source.upright)
        except DataError:  # it is not the one that was looked at
            raise
        except Exception as error:  # decoders raise what they like
            path = split.file(root, index)
            raise DataError(f"{path} cannot be decoded any more: {error}") from error

    with replacing([path]) as (file,), pa.ipc.new_file(file, schema) as writer:
        rows: list[tuple[bytes, int, bytes]] = []
        held = 0
        images = in_threads(convert, indices, job.workers, lambda done, _of: on_image(done))
        for index, image in zip(indices, images, strict=True):
            row = (bytes(split.paths[index]), int(split.labels[index]), image)
            content.update(_line(*row))
            rows.append(row)
            held += len(image)
            if held >= BATCH_BYTES or len(rows) == BATCH_IMAGES:
                writer.write_batch(_batch(rows, schema))
                rows, held = [], 0
        if rows:
            writer.write_batch(_batch(rows, schema))
    return Shard(
        file=path.name,
        images=len(indices),
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


def existing_shard(job: Job, path: Path, split: Files, indices: range) -> Shard | None:
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
                    if found == len(indices) or name != bytes(split.paths[indices[found]]):
                        return None
                    content.update(_line(name, label, image))
                    found += 1
    except (pa.ArrowException, OSError, ValueError):
        return None
    if found != len(indices):
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
        Exception: whatever the decoder likes.
    """
    content = read_file(path) if isinstance(path, Path) else path.getvalue()
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
