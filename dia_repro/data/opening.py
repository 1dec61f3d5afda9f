"""From an image file to upright RGB pixels, and no image that would not fit into memory."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from PIL import ExifTags, Image

from dia_repro.processors import cores

# Where Pillow begins to warn of decompression bombs: 268 MB decoded.
MOST_PIXELS = 89_478_485
# How EXIF says that the camera was held; 1, or nothing, is upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
AT_A_TIME = 500

Item = TypeVar("Item")
Result = TypeVar("Result")

# What Pillow has to say of odd files is said here, by refusing them, or not at all.
warnings.filterwarnings("ignore", module="PIL")


class UnfitImageError(ValueError):
    """An image that can be decoded, but not be trained on."""


def open_rgb(file: Path | io.BytesIO) -> tuple[Image.Image, int]:
    """Decode a file.

    Returns:
        The image as the file has it, in RGB, and the orientation of `turned`.

    Raises:
        Exception: whatever the decoder likes, where the file is damaged; `UnfitImageError` where
            it has too many pixels, or more than eight bits for each of a pixel's colours.
    """
    with Image.open(file) as image:
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise UnfitImageError(
                f"{width:,}×{height:,} pixels, more than {MOST_PIXELS / 1e6:.0f} million"
            )
        image.load()
        if image.mode.startswith(("I", "F")):  # they would all become white in RGB
            raise UnfitImageError("more than 8 bits a colour")
        # In RGB already it need not be copied.
        return image if image.mode == "RGB" else image.convert("RGB"), _orientation(image)


def upright(opened: tuple[Image.Image, int]) -> Image.Image:
    """What `open_rgb` gave, as the person who took the picture saw it."""
    image, orientation = opened
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # the pixels are sound all the same
        return 1
    return found if isinstance(found, int) and found in TURNS else 1


def in_threads(
    work: Callable[[Item], Result], items: Sequence[Item], threads: int | None = None
) -> Iterator[Result]:
    """What `work` gives for each item, in order, by all cores unless told.

    Not all at once: an error or an interruption waits for no more than is under way.
    """
    with ThreadPoolExecutor(threads or cores()) as pool:
        for first in range(0, len(items), AT_A_TIME):
            yield from pool.map(work, items[first : first + AT_A_TIME])
