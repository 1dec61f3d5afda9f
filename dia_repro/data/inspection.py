"""Every image of a folder decoded once: which are damaged, and one hash of all that are not."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dia_repro.data.dataset import DataError
from dia_repro.data.folder import Files, ImageFolder
from dia_repro.data.opening import in_threads, open_rgb

OnProgress = Callable[[int, int], None]
MEMORY = "inspections"  # inside the folder of downloaded data sets
FORMAT = 2  # of the remembered files
MENTIONED = 3


@dataclass(frozen=True)
class Inspection:
    """What came out.

    Attributes:
        content_hash: SHA-256 over names and bytes of the images that can be decoded: the same
            whether damaged ones are left out or deleted. That an image was turned upright is part
            of it, since an earlier version left it as it lay.
        damaged: names of those that cannot, relative to the folder.
        reasons: why not, for each of them.
        side: of the images in pixels, if all are square and of one size; None otherwise.
    """

    content_hash: str
    damaged: tuple[str, ...]
    reasons: tuple[str, ...]
    side: int | None

    @property
    def complaint(self) -> str:
        """The first damaged images, each with its reason."""
        known = zip(self.damaged[:MENTIONED], self.reasons, strict=False)
        first = ", ".join(f"{name} ({reason})" for name, reason in known)
        more = len(self.damaged) - MENTIONED
        return f"{first} and {more:,} more" if more > 0 else first


def inspect(folder: ImageFolder, memory: Path, on_progress: OnProgress | None = None) -> Inspection:
    """Decode every image, or recall what came out when no file has changed since.

    Args:
        memory: the folder in which to remember it; not being able to write there costs time
            only.
        on_progress: called with images done and images in all.

    Raises:
        DataError: a file cannot be read.
    """
    note = memory / f"{folder.signature[:32]}.json"
    recalled = _recall(note)
    if recalled is not None:
        return recalled
    inspection = _inspect(folder, on_progress)
    with suppress(OSError):
        memory.mkdir(parents=True, exist_ok=True)
        temporary = note.with_suffix(f".{os.getpid()}.tmp")
        content = {"format": FORMAT, **asdict(inspection)}
        temporary.write_text(json.dumps(content), encoding="utf-8")
        temporary.replace(note)
    return inspection


def _recall(note: Path) -> Inspection | None:
    """What was remembered; None where there is nothing, or not what `inspect` writes."""
    try:
        content = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None
    match content:
        case {
            "format": int(written),
            "content_hash": str(digest),
            "damaged": [*damaged],
            "reasons": [*reasons],
            "side": None | int() as side,
        } if written == FORMAT and len(digest) == hashlib.sha256().digest_size * 2:
            texts = all(isinstance(text, str) for text in (*damaged, *reasons))
            if texts and len(damaged) == len(reasons):
                return Inspection(digest, tuple(damaged), tuple(reasons), side)
    return None


def _inspect(folder: ImageFolder, on_progress: OnProgress | None) -> Inspection:
    digest, damaged, reasons, sizes = hashlib.sha256(), [], [], set()
    names = folder.names
    looks = in_threads(lambda name: _look(folder.root / name), names)
    for done, (name, look) in enumerate(zip(names, looks, strict=True), start=1):
        if isinstance(look, str):
            damaged.append(name)
            reasons.append(look)
        else:
            content, size = look
            digest.update(os.fsencode(name) + f"\0{content}\n".encode())
            sizes.add(size)
        if on_progress is not None and (done % 500 == 0 or done == len(names)):
            on_progress(done, len(names))
    sides = {side for size in sizes for side in size}
    return Inspection(
        content_hash=digest.hexdigest(),
        damaged=tuple(damaged),
        reasons=tuple(reasons),
        side=sides.pop() if len(sides) == 1 else None,
    )


def _look(path: Path) -> tuple[str, tuple[int, int]] | str:
    """SHA-256 of a file's bytes, with how its image is turned, and its size; or what is wrong."""
    try:
        content = path.read_bytes()
    except OSError as error:  # not the image's fault, and not to be remembered
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        image, orientation = open_rgb(io.BytesIO(content))
    except Exception as error:  # decoders raise what they like, e.g. RuntimeError
        return _reason(error)
    digest = hashlib.sha256(content).hexdigest()
    return digest if orientation == 1 else f"{digest} turned {orientation}", image.size


def _reason(error: Exception) -> str:
    """In a few words; Pillow's own for what is no image at all name an object in memory."""
    text = " ".join(str(error).split())
    return "not an image" if not text or "cannot identify image file" in text else text


def sound(folder: ImageFolder, inspection: Inspection, *, skip_damaged: bool) -> ImageFolder:
    """The folder's images that can be decoded.

    Raises:
        DataError: some cannot, and nobody said to leave them out; or none is left of a class.
    """
    damaged = inspection.damaged
    if damaged and not skip_damaged:
        raise DataError(
            f"{len(damaged):,} damaged images in {folder.root}: {inspection.complaint}; "
            f"'dia-repro data check folder:{folder.root}' lists them, "
            "--skip-damaged trains without them"
        )
    names = frozenset(damaged)
    train, test = folder.train.without(names), folder.test.without(names)
    for split, kept in (("train", train), (folder.test_names[0], test)):
        _check_classes(folder, split, kept)
    return replace(folder, train=train, test=test)


def _check_classes(folder: ImageFolder, split: str, kept: Files) -> None:
    left = set(kept.labels.tolist())
    for label, name in enumerate(folder.classes):
        if label not in left:
            raise DataError(f"{folder.root / split / name} has no image that can be decoded")
