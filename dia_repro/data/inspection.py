"""Inspection of a folder: every image is decoded once, for damage, repetition and a hash of all."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, Self

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, InstanceOf, StrictInt, model_validator

from dia_repro.atomic import write_file
from dia_repro.data import near
from dia_repro.data.image_folder import Files, ImageFolder
from dia_repro.data.opening import open_rgb, read_file, upright
from dia_repro.data.registry import DataError, OnProgress, reading
from dia_repro.data.threads import in_threads

Text = InstanceOf[str]  # pydantic's own text has no names that are not UTF-8
Pairs = tuple[tuple[Text, Text], ...]
MEMORY = "inspections"  # inside the folder of downloaded data sets
MENTIONED = 3


class Inspection(BaseModel):
    """Result, as it is remembered.

    Attributes:
        content_hash: SHA-256 over names and bytes of the images that can be decoded: the same
            whether damaged ones are left out or deleted. That an image was turned upright is part
            of it, since an earlier version left it as it lay.
        damaged: names of those that cannot be decoded, relative to the folder.
        reasons: for each of them, what is wrong with it.
        side: side of the images in pixels, if all are square and of one size; None otherwise.
        in_both: training and test image of the same pixels, for each test image that has one.
        in_two: two images of the same pixels in different classes, for each but the first of them.
        near: training and test image that look alike, for each such test image not in `in_both`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal[6] = 6
    content_hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    damaged: tuple[Text, ...]
    reasons: tuple[Text, ...]
    side: StrictInt | None
    in_both: Pairs = ()
    in_two: Pairs = ()
    near: Pairs = ()

    @model_validator(mode="after")
    def _each_has_a_reason(self) -> Self:
        if len(self.damaged) != len(self.reasons):
            raise ValueError("each damaged image has a reason")
        return self

    @property
    def complaint(self) -> str:
        """First damaged images, each with its reason."""
        known = zip(self.damaged[:MENTIONED], self.reasons, strict=False)
        first = ", ".join(f"{name} ({reason})" for name, reason in known)
        more = len(self.damaged) - MENTIONED
        return f"{first} and {more:,} more" if more > 0 else first

    @property
    def remarks(self) -> list[str]:
        """Sentences on images that are there more than once, without a full stop."""
        said = []
        if self.in_both:
            said.append(
                f"test images with the pixels of a training image: {_shown(self.in_both)}; "
                "accuracy on them shows what was memorised, delete one of each pair"
            )
        if self.near:
            said.append(
                f"test images that look like a training image, in another size or compression: "
                f"{_shown(self.near)}; compare them, and delete one of each pair"
            )
        if self.in_two:
            said.append(
                f"images with the pixels of one of another class: {_shown(self.in_two)}; "
                "at most one of the two labels is right"
            )
        return said


def _shown(pairs: Pairs) -> str:
    """Return how many there are, and the first ones."""
    first = ", ".join(" = ".join(pair) for pair in pairs[:MENTIONED])
    return f"{len(pairs):,} ({first}{', …' if len(pairs) > MENTIONED else ''})"


def inspect(folder: ImageFolder, memory: Path, on_progress: OnProgress | None = None) -> Inspection:
    """Decode every image, or recall what came out when no file has changed since.

    Args:
        memory: folder in which to remember it; one that cannot be written to costs time only.

    Raises:
        DataError: a file cannot be read.
    """
    note = memory / f"{folder.signature[:32]}.json"
    with suppress(OSError, ValueError, RecursionError):  # not there, or not what is written here
        return Inspection.model_validate(json.loads(read_file(note)))
    inspection = _inspect(folder, on_progress)
    with suppress(OSError):
        write_file(note, json.dumps(inspection.model_dump()).encode())
    return inspection


def _inspect(folder: ImageFolder, on_progress: OnProgress | None) -> Inspection:
    images = folder.images
    digest = hashlib.sha256()
    damaged: dict[str, str] = {}
    sides: set[int] = set()
    pixels = np.zeros(len(images), np.uint64)
    small = np.zeros((len(images), near.BYTES), np.uint8)
    looks = in_threads(partial(_look, images), range(len(images)), on_progress=on_progress)
    for number, (name, look) in enumerate(zip(images.names, looks, strict=True)):
        if isinstance(look, str):
            damaged[name] = look
        else:
            content, size, pixels[number], grey = look
            small[number] = np.frombuffer(grey, np.uint8)
            digest.update(os.fsencode(name) + f"\0{content}\n".encode())
            sides.update(size)
    in_both, in_two = _repeated(folder, pixels)
    names, first_test, known = images.names, len(folder.train), {test for _, test in in_both}
    alike = near.near_pairs(small[:first_test], small[first_test:])
    pairs = ((names[ours], names[first_test + theirs]) for ours, theirs in alike)
    return Inspection(
        content_hash=digest.hexdigest(),
        damaged=tuple(damaged),
        reasons=tuple(damaged.values()),
        side=sides.pop() if len(sides) == 1 else None,
        in_both=in_both,
        in_two=in_two,
        near=tuple(pair for pair in pairs if pair[1] not in known),
    )


def _repeated(folder: ImageFolder, pixels: np.ndarray) -> tuple[Pairs, Pairs]:
    """Return images of the same pixels in both parts, and in two classes.

    Args:
        pixels: (N,) uint64, a hash of each image's pixels; 0 for those that cannot be decoded.
    """
    names, labels = folder.images.names, folder.images.labels
    _, inverse, counts = np.unique(pixels, return_inverse=True, return_counts=True)
    alike: dict[int, list[int]] = {}
    for number in np.flatnonzero((counts[inverse] > 1) & (pixels > 0)).tolist():
        alike.setdefault(int(pixels[number]), []).append(number)
    in_both, in_two = [], []
    for first, *others in alike.values():
        for other in others:
            if first < len(folder.train) <= other:
                in_both.append((names[first], names[other]))
            if labels[first] != labels[other]:
                in_two.append((names[first], names[other]))
    return tuple(in_both), tuple(in_two)


def _look(images: Files, number: int) -> tuple[str, tuple[int, int], int, bytes] | str:
    """Return what is wrong with an image, or its properties.

    These are the SHA-256 of its bytes, with its orientation if it is turned; width and height in
    pixels, as the file has them; a hash of 64 bits of the pixels, turned upright; and these pixels
    reduced by `near`.
    """
    path = images.file(number)
    try:
        with reading(path):  # not the image's fault, and not to be remembered
            content = images.read(number, "the images were listed")
        image, orientation = opened = open_rgb(content)
    except DataError:
        raise
    except MemoryError as error:  # not the image's fault either
        raise DataError(f"cannot decode {path}: not enough memory") from error
    except Exception as error:  # decoders raise what they like, e.g. RuntimeError
        # Pillow's own message may name an object in memory.
        text = " ".join(str(error).split())
        return "not an image" if not text or "cannot identify image file" in text else text
    digest = hashlib.sha256(content).hexdigest()
    turned = digest if orientation == 1 else f"{digest} turned {orientation}"
    seen = upright(opened)
    return turned, image.size, _pixels(seen, content), near.reduced(seen)


def _pixels(image: Image.Image, content: bytes) -> int:
    """Return a hash of what is seen, from 1; of the file where Pillow gives no row so long."""
    try:
        pixels = image.tobytes()
    except MemoryError:
        pixels = content
    digest = hashlib.sha256(f"{image.size}".encode() + pixels).digest()
    return int.from_bytes(digest[:8], "little") or 1


def sound(folder: ImageFolder, inspection: Inspection, *, skip_damaged: bool) -> ImageFolder:
    """Return the folder with the images that can be decoded.

    Raises:
        DataError: some cannot, and are not to be left out; or none is left of a class.
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
        left = set(kept.labels.tolist())
        for label, name in enumerate(folder.classes):
            if label not in left:
                raise DataError(f"{folder.root / split / name} has no image that can be decoded")
    return replace(folder, train=train, test=test)
