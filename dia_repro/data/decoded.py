"""Cache of the decoded images of a folder, next to downloaded data.

60,000 small JPEG files take 20 seconds of a core to decode; their pixels are read in one. Pixels
that are missing, damaged or of other images are decoded again, and replaced where they can be.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import PIL
from PIL import features

from dia_repro.atomic import replacing

KEPT = "decoded"  # inside the folder of downloaded data sets
MOST_BYTES = 2 << 30  # more are decoded each time rather than written a second time to the disk
# Errors of reading a file that was cut off, overwritten or made by others.
DAMAGED = (OSError, ValueError, TypeError, KeyError, EOFError, MemoryError, zipfile.BadZipFile)


def decoded(
    root: Path, folder: Path, shape: Sequence[int], content: str, decode: Callable[[], np.ndarray]
) -> np.ndarray:
    """Return the pixels of a folder's images, as decoded now or kept from before.

    Args:
        root: folder of downloaded data sets.
        folder: folder of the images.
        shape: (N, H, W, 3).
        content: hash that tells these images from others that the folder had or will have.
        decode: returns the pixels, uint8 of that shape.
    """
    name = hashlib.sha256(f"{folder}\0{shape[1]}".encode(errors="surrogateescape")).hexdigest()
    path = root / KEPT / f"{name[:32]}.npz"
    key = json.dumps([content, *shape, decoders()])
    with suppress(*DAMAGED):
        if path.is_file():  # no pipe, which would be waited for
            with np.load(path, allow_pickle=False) as kept:
                if str(kept["key"]) == key:
                    return np.asarray(kept["pixels"], np.uint8).reshape(shape)
    pixels = decode()
    if pixels.nbytes <= MOST_BYTES:
        with suppress(OSError), replacing([path]) as (file,):
            np.savez(file, key=np.array(key), pixels=pixels)
    return pixels


@cache
def decoders() -> str:
    """Return what decides which pixels a file gives: decoders, and code of this package."""
    code = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        code.update(file.read_bytes())
    versions = [features.version(name) for name in ("jpg", "libjpeg_turbo", "webp", "libtiff")]
    return json.dumps([PIL.__version__, *versions, code.hexdigest()])
