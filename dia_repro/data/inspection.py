"""Every image of a folder decoded once: which are damaged, and one hash of all that are not."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from dia_repro.data.dataset import DataError
from dia_repro.data.folder import ImageFolder

OnProgress = Callable[[int, int], None]
FORMAT = 1  # of the remembered files
MENTIONED = 3


@dataclass(frozen=True)
class Inspection:
    """What came out.

    Attributes:
        content_hash: SHA-256 over names and bytes of the images that can be decoded: the same
            whether damaged ones are left out or deleted.
        damaged: names of those that cannot, relative to the folder.
        side: of the images in pixels, if all are square and of one size; None otherwise.
    """

    content_hash: str
    damaged: tuple[str, ...]
    side: int | None


def inspect(folder: ImageFolder, memory: Path, on_progress: OnProgress | None = None) -> Inspection:
    """Decode every image, or recall what came out when no file has changed since.

    Args:
        memory: the folder in which to remember it; not being able to write there costs time
            only.
        on_progress: called with images done and images in all.
    """
    note = memory / f"{folder.signature[:32]}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        recalled = json.loads(note.read_text(encoding="utf-8"))
        if recalled.pop("format") == FORMAT:
            return Inspection(**{**recalled, "damaged": tuple(recalled["damaged"])})
    inspection = _inspect(folder, on_progress)
    with suppress(OSError):
        memory.mkdir(parents=True, exist_ok=True)
        temporary = note.with_suffix(f".{os.getpid()}.tmp")
        content = {"format": FORMAT, **asdict(inspection)}
        temporary.write_text(json.dumps(content), encoding="utf-8")
        temporary.replace(note)
    return inspection


def _inspect(folder: ImageFolder, on_progress: OnProgress | None) -> Inspection:
    digest, damaged, sizes = hashlib.sha256(), [], set()
    names = folder.names
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = pool.map(lambda name: _look(folder.root / name), names)
        for done, (name, (content, size)) in enumerate(zip(names, looks, strict=True), start=1):
            if size is None:
                damaged.append(name)
            else:
                digest.update(f"{name}\0{content}\n".encode())
                sizes.add(size)
            if on_progress is not None and (done % 500 == 0 or done == len(names)):
                on_progress(done, len(names))
    sides = {side for size in sizes for side in size}
    return Inspection(
        content_hash=digest.hexdigest(),
        damaged=tuple(damaged),
        side=sides.pop() if len(sides) == 1 else None,
    )


def _look(path: Path) -> tuple[str, tuple[int, int] | None]:
    """SHA-256 of a file's bytes, and its image's size, or None if it cannot be decoded."""
    try:
        content = path.read_bytes()
    except OSError as error:  # not the image's fault, and not to be remembered
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            if image.mode.startswith(("I", "F")):
                return "", None  # 16 and 32 bits a pixel would all become white in RGB
            return hashlib.sha256(content).hexdigest(), image.size
    except Exception:  # decoders raise what they like, e.g. RuntimeError
        return "", None


def sound(folder: ImageFolder, inspection: Inspection, *, skip_damaged: bool) -> ImageFolder:
    """The folder's images that can be decoded.

    Raises:
        DataError: some cannot, and nobody said to leave them out; or none is left.
    """
    damaged = inspection.damaged
    if damaged and not skip_damaged:
        first = ", ".join(damaged[:MENTIONED])
        more = f" and {len(damaged) - MENTIONED:,} more" if len(damaged) > MENTIONED else ""
        raise DataError(
            f"{len(damaged):,} damaged images in {folder.root}: {first}{more}; "
            f"'dia-repro data check folder:{folder.root}' lists them, "
            "--skip-damaged trains without them"
        )
    names = frozenset(damaged)
    train, test = folder.train.without(names), folder.test.without(names)
    if not len(train) or not len(test):
        raise DataError(f"{folder.root} has no image that can be decoded")
    return ImageFolder(folder.root, folder.classes, train, test)
