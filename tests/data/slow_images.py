"""JPEG files of a few hundred kilobytes that take seconds to minutes to decode."""

from __future__ import annotations

import struct


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
