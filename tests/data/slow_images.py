"""Image files of a few hundred kilobytes to megabytes that take seconds to hours to decode."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image


def many_scans(side: int, scans: int, trailer: bytes = b"") -> bytes:
    """Return a grey progressive JPEG file in which every scan visits every pixel.

    Args:
        side: width and height in pixels, a multiple of 8.
        scans: how many.
        trailer: what follows the end of the image.
    """
    blocks = (side // 8) ** 2
    head = b"\xff\xd8" + _segment(0xDB, b"\0" + b"\1" * 64)
    head += _segment(0xC2, struct.pack(">BHHBBBB", 8, side, side, 1, 1, 0x11, 0))
    # One code, of one bit, in each Huffman table: no difference (DC); end of 16,384 blocks (AC).
    for table, symbol in ((0x00, 0x00), (0x10, 0xE0)):
        head += _segment(0xC4, bytes([table, 1]) + b"\0" * 15 + bytes([symbol]))
    first = _segment(0xDA, bytes([1, 1, 0, 0, 0, 0x00])) + b"\0" * -(-blocks // 8)
    # A run is its code, and fourteen bits of its length beyond 16,384.
    bits = "".join("0" + "1" * 14 for _ in range(-(-blocks // 32767)))
    bits += "1" * (-len(bits) % 8)
    runs = bytes(int(bits[n : n + 8], 2) for n in range(0, len(bits), 8))
    refining = _segment(0xDA, bytes([1, 1, 0, 1, 63, 0x10])) + runs.replace(b"\xff", b"\xff\0")
    return head + first + refining * (scans - 1) + b"\xff\xd9" + trailer


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def tiled(size: tuple[int, int], tile: tuple[int, int]) -> bytes:
    """Return a grey TIFF file whose tiles are all the same zeros, deflated.

    Args:
        size: width and height of the image in pixels.
        tile: width and height of a tile in pixels.
    """
    number = -(-size[0] // tile[0]) * -(-size[1] // tile[1])
    data = _deflated(tile[0] * tile[1])
    entries: list[tuple[int, tuple[int, ...]]] = [
        (256, size[:1]),
        (257, size[1:]),
        (258, (8,)),
        (259, (8,)),  # deflated
        (262, (1,)),
        (277, (1,)),
        (322, tile[:1]),
        (323, tile[1:]),
        (324, (8,) * number),
        (325, (len(data),) * number),
    ]
    place = 8 + len(data)
    outside, directory = b"", struct.pack("<H", len(entries))
    for tag, values in entries:
        packed = struct.pack(f"<{len(values)}I", *values)
        if len(values) > 1:
            packed, outside = struct.pack("<I", place + len(outside)), outside + packed
        directory += struct.pack("<HHI", tag, 4, len(values)) + packed
    head = b"II*\0" + struct.pack("<I", place + len(outside))
    return head + data + outside + directory + b"\0" * 4


def repeated_tags(tags: int, size: int, image_format: str) -> bytes:
    """Return an image of one grey pixel with tags that are the same bytes, each copied when read.

    Args:
        tags: how many.
        size: of the bytes.
        image_format: "TIFF", or "PNG", which has the tags in its EXIF data.
    """
    pixel = 8 + 2 + 12 * (9 + tags) + 4
    image = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, pixel), (277, 1), (278, 1)]
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in (*image, (279, 1))]
    entries += [struct.pack("<HHII", 1000 + tag, 7, size, pixel) for tag in range(tags)]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + b"\0" * 4
    content = b"II*\0" + struct.pack("<I", 8) + directory + b"\x80" * size
    if image_format == "TIFF":
        return content
    file = io.BytesIO()
    Image.new("L", (1, 1), 0x80).save(file, image_format, exif=content)
    return file.getvalue()


def _deflated(zeros: int) -> bytes:
    packer, block = zlib.compressobj(9), b"\0" * (1 << 20)
    parts = [packer.compress(block[: zeros - done]) for done in range(0, zeros, len(block))]
    return b"".join(parts) + packer.flush()
