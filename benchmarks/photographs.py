"""Synthetic photographs, for measuring the decoding of images without real ones.

Their spectrum falls off as that of natural images (amplitude as 1/f: D. J. Field, Relations
between the statistics of natural images and the response properties of cortical cells, 1987), and
their colours are correlated. So a JPEG file with ImageNet's usual number of pixels has its usual
number of bytes, about 110 kB. Decoding white noise would take several times as long.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 500, 375
QUALITY = 88  # gives 105 to 115 kB
CONTRAST, BRIGHTNESS = 55, 118
COMMON, OWN = 0.85, 0.35  # weights of the first colour and of a separate one in the others


def photograph(number: int, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Return an RGB image that depends on the number only."""
    random = np.random.default_rng(number)
    first, second, third = (_natural(random, width, height) for _ in range(3))
    colours = [first, COMMON * first + OWN * second, COMMON * first + OWN * third]
    pixels = np.stack(colours, axis=-1) * CONTRAST + BRIGHTNESS
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def jpeg(number: int, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """Return `photograph` as a JPEG file."""
    file = io.BytesIO()
    photograph(number, width, height).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def write_photographs(root: Path, training_images: int, test_images: int, distinct: int) -> None:
    """Fill train/CLASS/ and val/CLASS/ of two classes.

    Args:
        distinct: number of different photographs; the others are copies.
    """
    files = [jpeg(number) for number in range(min(distinct, training_images + test_images))]
    for split, count in (("train", training_images), ("val", test_images)):
        for number in range(count):
            folder = root / split / f"synthetic{number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}.jpg").write_bytes(files[number % len(files)])


def _natural(random: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Return a channel (H, W) with mean 0 and standard deviation 1."""
    across, down = np.fft.rfftfreq(width)[None], np.fft.fftfreq(height)[:, None]
    frequency = np.hypot(across, down)
    frequency[0, 0] = np.inf  # no mean
    shape = frequency.shape
    noise = random.standard_normal(shape) + 1j * random.standard_normal(shape)
    channel: np.ndarray = np.fft.irfft2(noise / frequency, (height, width))
    channel /= channel.std()
    return channel
