"""Image files decoded to upright RGB pixels, unless they would not fit into memory.

Files are not trusted by their names: only decoders in `FORMATS` see them, and neither a pipe, nor a
file of the kernel's that never ends, nor a file of terabytes is read.
"""

from __future__ import annotations

import io
import math
import os
import re
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from PIL import ExifTags, Image

from dia_repro.data.registry import DataError

if TYPE_CHECKING:  # Pillow loads the plugin where there is a TIFF file
    from PIL.ImageFile import ImageFile
    from PIL.TiffImagePlugin import TiffImageFile

    from dia_repro.data.dataset import Split

# Formats that Pillow may try. The JPEG and GIF decoders are safe, and collections from the web
# have GIF files named .jpg; others start programs (EPS) or depend on how Pillow was built.
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")
# Where Pillow begins to warn of decompression bombs: 268 MB decoded.
MOST_PIXELS = 89_478_485
# Of a file: that many pixels of four bytes, and room for what is written about them.
MOST_BYTES = 4 * MOST_PIXELS + (1 << 24)
# Scans of a JPEG file, each of which visits every pixel: libtiff's limit. Encoders write about ten.
MOST_SCANS = 100
# Parts of a file that Pillow, in Python, or a loop here takes one by one, such as chunks and bytes
# between them; and one more for each that many bytes, as much as the smallest tile of a TIFF file.
MOST_PARTS, PART_BYTES = 100_000, 256
MOST_COMMENTS = 100  # of a PPM file in text, which is copied for each
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
# A marker with a length: no stuffed byte, no restart within a scan, and none below C0, which is
# invalid: libjpeg reads on right after it where it looks for a restart.
MARKER = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")
TOO_MANY_PARTS = "too many parts for its size"
# Turns that bring an image of each EXIF orientation upright; 1, or none, is upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
Facts = tuple[int, int, int, int]

# Pillow warns of odd files, which are refused here where that is needed.
warnings.filterwarnings("ignore", module="PIL")


class UnfitImageError(ValueError):
    """An image that can be decoded, but not be trained on."""


class _Counted(io.BytesIO):
    """File that can be read only so often: one of very many parts would take hours."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.left: float = MOST_PARTS + len(content) // PART_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise UnfitImageError(TOO_MANY_PARTS)
        return super().read(size)


def facts_of(status: os.stat_result) -> Facts:
    """Return size, inode, and times of the last change of content and of anything, in ns."""
    # Some file systems give inodes of 64 bits, and arrays hold 63 and a sign.
    inode = status.st_ino & (2**63 - 1)
    return status.st_size, inode, status.st_mtime_ns, status.st_ctime_ns


def read_file(
    path: Path, expected: Sequence[int] | None = None, since: str = "", most: int = MOST_BYTES
) -> bytes:
    """Read a file without waiting for anything but the disk.

    Args:
        expected: facts of the file at an earlier time; None accepts any file.
        since: that time, for the message.
        most: the largest size in bytes.

    Raises:
        DataError: the file has changed since then.
        OSError: it cannot be read.
        UnfitImageError: it is no regular file, too large, or has not the bytes that it should.
    """
    with open(path, "rb", opener=open_at_once) as file:
        found = os.fstat(file.fileno())
        fit = stat.S_ISREG(found.st_mode) and found.st_size <= most
        # A file of /proc says that it is empty, and may have no end.
        content = file.read(found.st_size) if fit else b""
        after = facts_of(os.fstat(file.fileno()))
    # Inodes do not count: file systems in user space (sshfs, object stores) give a file another one
    # each time the kernel forgets it, and replacing a file changes the time of change.
    if expected is not None and (*expected[:1], *expected[2:]) != (*after[:1], *after[2:]):
        raise DataError(f"{path} has changed since {since}: start again")
    if not stat.S_ISREG(found.st_mode):
        raise UnfitImageError("not a regular file")
    if not fit:
        raise UnfitImageError(f"{found.st_size:,} bytes, more than {most / 1e6:,.0f} million")
    if len(content) != found.st_size:
        raise UnfitImageError(f"{len(content):,} bytes instead of {found.st_size:,}")
    return content


def open_at_once(path: str, flags: int) -> int:
    """Open a file; a pipe without a writer is opened, too, instead of waited for."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def open_rgb(content: bytes) -> tuple[Image.Image, int]:
    """Decode a file.

    Returns:
        The image as the file has it, in RGB, and its orientation: see `upright`.

    Raises:
        Exception: whatever the decoder likes, where the file is damaged; `UnfitImageError` where
            it has too many pixels, scans, tiles or other parts, or more than eight bits for each of
            a pixel's colours.
    """
    counted = _Counted(content)
    with Image.open(counted, formats=FORMATS) as image:
        width, height = image.size
        _check_pixels(width * height, f"{width:,}×{height:,} pixels")
        _check_structure(image, content)
        if image.format in ("BMP", "PPM"):  # their pixels may be read one by one
            counted.left = math.inf
        image.load()
        if image.mode.startswith(("I", "F")):  # they would all become white in RGB
            raise UnfitImageError("more than 8 bits a colour")
        # In RGB already it need not be copied.
        return image if image.mode == "RGB" else image.convert("RGB"), _orientation(image)


def upright(opened: tuple[Image.Image, int]) -> Image.Image:
    """Return what `open_rgb` gave, as the person who took the picture saw it."""
    image, orientation = opened
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


@contextmanager
def decoded_again(split: Split, index: int) -> Iterator[None]:
    """Context in which an image that could be decoded before is read and decoded.

    Raises:
        DataError: it has changed, or cannot be decoded any more.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # decoders raise what they like
        reason = f"{split.describe(index)} cannot be decoded any more: {error}"
        raise DataError(reason.splitlines()[0]) from error


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # the pixels are sound all the same
        return 1
    return found if isinstance(found, int) and found in TURNS else 1


def _check_pixels(number: int, what: str) -> None:
    if number > MOST_PIXELS:
        raise UnfitImageError(f"{what}, more than {MOST_PIXELS / 1e6:.0f} million")


def _check_structure(image: ImageFile, content: bytes) -> None:
    """Refuse a small file that would be decoded for minutes: `UnfitImageError`."""
    if image.format in ("JPEG", "MPO"):
        _check_scans(content)
    elif image.format == "TIFF":
        _check_tiles(cast("TiffImageFile", image))
    elif content[:2] in (b"P1", b"P2", b"P3") and content.count(b"#") > MOST_COMMENTS:
        raise UnfitImageError(f"more than {MOST_COMMENTS} comments")


def _check_tiles(image: TiffImageFile) -> None:
    """Refuse a TIFF file whose tiles or strips have more pixels in all than an image may."""
    tags, names = image.tag_v2, ExifTags.Base
    width, height = tags[names.ImageWidth], tags[names.ImageLength]
    rows = min(height, tags.get(names.RowsPerStrip, height))
    tile_width, tile_height = tags.get(names.TileWidth, width), tags.get(names.TileLength, rows)
    if not (isinstance(tile_width, int) and isinstance(tile_height, int)):
        raise UnfitImageError("no size of its tiles")
    if min(tile_width, tile_height) < 1:
        raise UnfitImageError("tiles without pixels")
    number = -(-width // tile_width) * -(-height // tile_height)
    # A small one takes time, too.
    pixels = number * max(tile_width * tile_height, PART_BYTES)
    _check_pixels(pixels, f"tiles: {number:,} of {tile_width:,}×{tile_height:,} pixels")


def _check_scans(content: bytes) -> None:
    """Refuse a JPEG file of more than `MOST_SCANS` scans, or of far too many markers."""
    if content.count(bytes((0xFF, START_OF_SCAN))) <= MOST_SCANS:
        return
    scans, place, left = 0, 2, MOST_PARTS
    while (marker := MARKER.search(content, place)) and marker[1][0] != END_OF_IMAGE:
        if not (left := left - 1):
            raise UnfitImageError(TOO_MANY_PARTS)
        scans += marker[1][0] == START_OF_SCAN
        end = marker.end()
        place = end + int.from_bytes(content[end : end + 2])
    if scans > MOST_SCANS:
        raise UnfitImageError(f"{scans:,} scans, more than {MOST_SCANS}")
