"""From an image file to upright RGB pixels, and no image that would not fit into memory.

Files are not trusted by their names: only decoders in `FORMATS` see them, and neither a pipe, nor a
file of the kernel's that never ends, nor a file of terabytes is read.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from PIL import ExifTags, Image

from dia_repro.data.dataset import DataError
from dia_repro.processors import cores

# What Pillow may take a file for. The JPEG and GIF decoders are safe, and collections from the web
# have GIF files named .jpg; others start programs (EPS) or depend on how Pillow was built.
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")
# Where Pillow begins to warn of decompression bombs: 268 MB decoded.
MOST_PIXELS = 89_478_485
# Of a file: that many pixels of four bytes, and room for what is written about them.
MOST_BYTES = 4 * MOST_PIXELS + (1 << 24)
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


Facts = tuple[int, int, int, int]


def facts_of(status: os.stat_result) -> Facts:
    """Size, inode, and times of the last change of content and of anything, in nanoseconds."""
    # Some file systems give inodes of 64 bits, and arrays hold 63 and a sign.
    inode = status.st_ino & (2**63 - 1)
    return status.st_size, inode, status.st_mtime_ns, status.st_ctime_ns


def read_file(path: Path, expected: Sequence[int] | None = None, since: str = "") -> bytes:
    """Read a file without waiting for anything but the disk.

    Args:
        expected: what `facts_of` gave for the file earlier; None where it was not looked at.
        since: when that was, for the message.

    Raises:
        DataError: the file has changed since then.
        OSError: it cannot be read.
        UnfitImageError: it is no regular file, too large, or has not the bytes that it should.
    """
    with open(path, "rb", opener=open_at_once) as file:
        found = os.fstat(file.fileno())
        fit = stat.S_ISREG(found.st_mode) and found.st_size <= MOST_BYTES
        # A file of /proc says that it is empty, and may go on for ever.
        content = file.read(found.st_size) if fit else b""
        after = facts_of(os.fstat(file.fileno()))
    if expected is not None and not same_file(expected, after):
        raise DataError(f"{path} has changed since {since}: start again")
    if not stat.S_ISREG(found.st_mode):
        raise UnfitImageError("not a regular file")
    if not fit:
        raise UnfitImageError(f"{found.st_size:,} bytes, more than {MOST_BYTES / 1e6:.0f} million")
    if len(content) != found.st_size:
        raise UnfitImageError(f"{len(content):,} bytes instead of {found.st_size:,}")
    return content


def open_at_once(path: str, flags: int) -> int:
    """Open a file; a pipe without a writer is opened, too, instead of waited for."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def same_file(expected: Sequence[int], found: Facts) -> bool:
    """Whether a file is the one that it was.

    Inodes do not count: file systems in user space (sshfs, object stores) give a file another one
    each time the kernel forgets it, and whoever replaces a file changes the time of change.
    """
    return (found[0], *found[2:]) == (expected[0], *expected[2:])


def open_rgb(file: Path | io.BytesIO) -> tuple[Image.Image, int]:
    """Decode a file.

    Returns:
        The image as the file has it, in RGB, and the orientation of `turned`.

    Raises:
        Exception: whatever the decoder likes, where the file is damaged; `UnfitImageError` where
            it has too many pixels, or more than eight bits for each of a pixel's colours.
    """
    if isinstance(file, Path):
        file = io.BytesIO(read_file(file))
    with Image.open(file, formats=FORMATS) as image:
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
