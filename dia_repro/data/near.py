"""Near duplicates: test images that look like a training image, but for size or compression.

An image is reduced to 9×8 grey values. Two look alike if nearly all of the 64 differences between
neighbours have the same signs, 16 of a quarter among them, and the grey values differ little. Not
all copies are found. Images without contrast look like each other, so they are left out.

Of CIFAR-10's test images (as JPEG files) 85 are found; of these 36 were looked at, and each showed
the same picture as its training image.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = (9, 8)  # width and height of a reduced image
BYTES = SIZE[0] * SIZE[1]
MOST_SIGNS = 8  # that differ
BANDS, BITS = 4, 16  # quarters of the signs
MOST_GREY = 12.0  # mean difference of grey values, of 255
LEAST_CONTRAST = 10.0  # standard deviation of grey values
MOST_ALIKE = 200  # training images with a band of signs, beyond which it tells nothing
AT_A_TIME = 4096

Small = NDArray[np.uint8]


def reduced(image: Image.Image) -> bytes:
    """Return the grey values of a reduced image, row by row: `BYTES` of them."""
    return image.convert("L").resize(SIZE, Image.Resampling.BOX).tobytes()


def near_pairs(train: Small, test: Small) -> Iterator[tuple[int, int]]:
    """Yield each test image that looks like a training image, with the most similar one.

    Args:
        train, test: reduced images, (N, 72) and (M, 72).

    Yields:
        The numbers of the training and the test image, in order of the latter.
    """
    ours, theirs = (np.flatnonzero(_contrast(images)) for images in (train, test))
    signs, asked = (_signs(images) for images in (train[ours], test[theirs]))
    orders = [np.argsort(_band(signs, number), kind="stable") for number in range(BANDS)]
    for first in range(0, len(theirs), AT_A_TIME):
        part = slice(first, first + AT_A_TIME)
        found = _alike(signs, orders, asked[part])
        best: dict[int, tuple[float, int]] = {}
        for known, number in found:
            trained, tested = int(ours[known]), int(theirs[part][number])
            difference = float(np.abs(train[trained].astype(int) - test[tested]).mean())
            if difference <= MOST_GREY:
                best[tested] = min(best.get(tested, (difference, trained)), (difference, trained))
        yield from ((best[tested][1], tested) for tested in sorted(best))


def _contrast(images: Small) -> NDArray[np.bool_]:
    return np.asarray(images.std(axis=1) >= LEAST_CONTRAST)


def _signs(images: Small) -> NDArray[np.uint64]:
    """Return the 64 signs of the differences between neighbours in a row, as a number."""
    rows = images.reshape(-1, SIZE[1], SIZE[0])
    bits = (rows[:, :, 1:] > rows[:, :, :-1]).reshape(-1, 64)
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]


def _band(signs: NDArray[np.uint64], number: int) -> NDArray[np.uint64]:
    return (signs >> np.uint64(BITS * number)) & np.uint64(2**BITS - 1)


def _alike(
    signs: NDArray[np.uint64], orders: list[NDArray[np.intp]], asked: NDArray[np.uint64]
) -> list[tuple[int, int]]:
    """Return pairs with at most `MOST_SIGNS` other signs that agree in one of the bands."""
    pairs: set[tuple[int, int]] = set()
    for number, order in enumerate(orders):
        known, wanted = _band(signs, number)[order], _band(asked, number)
        low, high = (np.searchsorted(known, wanted, side) for side in ("left", "right"))
        counts = np.where(high - low <= MOST_ALIKE, high - low, 0)
        theirs = np.repeat(np.arange(len(asked)), counts)
        starts = np.repeat(low - np.cumsum(counts) + counts, counts)
        ours = order[starts + np.arange(len(theirs))]
        other = (signs[ours] ^ asked[theirs]).view(np.uint8).reshape(-1, 8)
        few = np.unpackbits(other, axis=1).sum(1) <= MOST_SIGNS
        pairs.update(zip(ours[few].tolist(), theirs[few].tolist(), strict=True))
    return sorted(pairs)
