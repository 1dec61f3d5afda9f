"""From an image file to the pixels that a network sees; imports torchvision, which takes long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.functional import center_crop, hflip, resized_crop
from torchvision.transforms.v2.functional import resize  # the older one computes in floats

from dia_repro.data.dataset import RESIZE_RATIO, SplitName, StreamedDataset
from dia_repro.data.opening import decoded_again, open_rgb, upright

# The longer side, as a multiple of the shorter one, beyond which the ends are cut off before an
# image is resized: they would grow beyond all memory, and be cut off afterwards anyway.
LONGEST = 16
# Of a random crop: its share of the image's area, and its width by its height.
AREA, SHAPE = [0.08, 1.0], [3 / 4, 4 / 3]


@dataclass(frozen=True)
class Wanted:
    """An image of a batch.

    Attributes:
        of: the part of the data that it belongs to.
        index: its number in that split.
        seed: seed of its random crop and flip; None leaves it at the centre.
    """

    of: SplitName
    index: int
    seed: int | None


Picture = TypeVar("Picture", Image.Image, Tensor)


class Decoded:
    """Images as (S, S, 3) uint8 and label.

    Attributes:
        size: S, in pixels.
    """

    def __init__(self, dataset: StreamedDataset) -> None:
        self.dataset, self.size = dataset, dataset.image_size

    def __getitem__(self, wanted: Wanted) -> tuple[np.ndarray, int]:
        """Return an image and its label; raises `DataError` as `decoded_again`."""
        dataset, size, seed = self.dataset, self.size, wanted.seed
        split = dataset.split(wanted.of)
        with decoded_again(split, wanted.index):
            image, _ = opened = open_rgb(split.read(wanted.index))
            if dataset.packed:
                pixels = packed_pixels(image, size, seed)
            else:
                image = upright(opened) if dataset.upright else image
                image = centred(image, size) if seed is None else augmented(image, size, seed)
                pixels = np.asarray(image)
        return pixels, int(split.labels[wanted.index])


def packed_pixels(opened: Image.Image, size: int, seed: int | None) -> np.ndarray:
    """Return (S, S, 3) uint8 of a packed image, at the centre or augmented by a seed.

    Resized by torch, in less than half of Pillow's time and with other last digits: what is packed
    is another experiment anyway.
    """
    image = torch.from_numpy(np.array(opened)).permute(2, 0, 1)
    if seed is None:
        crop: Tensor = centred(image, size)
    else:
        top, left, height, width, mirror = random_crop(image, seed)
        crop = image[:, top : top + height, left : left + width]
        crop = resize(crop, [size, size], antialias=True)
        crop = crop.flip(-1) if mirror else crop
    pixels: np.ndarray = crop.permute(1, 2, 0).numpy()
    return pixels


def reduced(image: Picture, side: int) -> Picture:
    """Return an image with the shorter side of `side`; a very long image loses its ends."""
    width, height = (image.shape[-1], image.shape[-2]) if isinstance(image, Tensor) else image.size
    longest = LONGEST * min(height, width)
    if max(height, width) > longest:
        image = center_crop(image, [min(height, longest), min(width, longest)])
    smaller: Picture = resize(image, [side], antialias=True)
    return smaller


def centred(image: Picture, size: int) -> Picture:
    """Return the middle of an image: shorter side to 8/7 of `size` (256 for 224), then a crop."""
    middle: Picture = center_crop(reduced(image, round(size * RESIZE_RATIO)), [size, size])
    return middle


def augmented(image: Image.Image, size: int, seed: int) -> Image.Image:
    """Return a crop of 8 to 100 % of the area, 3:4 to 4:3, resized; half of them are mirrored."""
    *box, mirror = random_crop(image, seed)
    cropped: Image.Image = resized_crop(image, *box, [size, size])
    return hflip(cropped) if mirror else cropped


def random_crop(image: Image.Image | Tensor, seed: int) -> tuple[int, int, int, int, bool]:
    """Return top, left, height and width of a crop, and whether it is mirrored, for a seed.

    What is drawn is what `torch.random.fork_rng` around `torch.manual_seed` gives, in a seventh of
    the time: other devices' generators are left alone.
    """
    drawing = torch.default_generator
    before = drawing.get_state()
    try:
        drawing.manual_seed(seed)
        top, left, height, width = RandomResizedCrop.get_params(image, AREA, SHAPE)
        mirror = bool(torch.rand(()) < 0.5)
    finally:
        drawing.set_state(before)
    return top, left, height, width, mirror
