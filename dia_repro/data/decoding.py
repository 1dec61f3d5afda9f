"""From an image file to the tensor that a network sees; imports torchvision, which takes long."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, default_collate
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.functional import center_crop, hflip, pil_to_tensor, resize

from dia_repro.data.folder import Files
from dia_repro.data.opening import open_rgb, upright

# The shorter side before the centre crop, as a multiple of the crop's: 256 for 224.
RESIZE_RATIO = 256 / 224
# The longer side, as a multiple of the shorter one, beyond which the ends are cut off before an
# image is resized: they would grow beyond all memory, and be cut off afterwards anyway.
LONGEST = 16


@dataclass(frozen=True)
class Unreadable:
    """Stands for an image, or a batch, that cannot be read.

    An exception would come out of a worker process with its whole traceback for a message.
    """

    reason: str


Example = tuple[Tensor, int]


class Decoded(Dataset[Example | Unreadable]):
    """Images by number, as (3, S, S) uint8 and label.

    Args:
        root: folder that the paths of `split` begin at.
        split: the images.
        size: side of what comes out, in pixels.
        seeds: (N,) for each image's random crop and flip; None leaves them at the centre.
        upright: whether images are turned as their EXIF data say.
    """

    def __init__(
        self, root: Path, split: Files, size: int, seeds: Tensor | None, *, upright: bool
    ) -> None:
        self.root, self.split, self.size, self.seeds = root, split, size, seeds
        self.upright = upright

    def __getitem__(self, index: int) -> Example | Unreadable:
        path = self.root / os.fsdecode(self.split.paths[index])
        try:
            opened = open_rgb(path)
        except Exception as error:  # decoders raise what they like
            return Unreadable(f"{path} cannot be decoded any more: {error}")
        image = upright(opened) if self.upright else opened[0]
        if self.seeds is None:
            image = centred(image, self.size)
        else:
            image = varied(image, self.size, int(self.seeds[index]))
        return pil_to_tensor(image), int(self.split.labels[index])


def collate(
    examples: Sequence[Example | Unreadable], size: int
) -> tuple[Tensor, Tensor] | Unreadable:
    """A batch (B, 3, S, S) and its labels (B,), or its first image that cannot be read."""
    if not examples:
        return torch.empty(0, 3, size, size, dtype=torch.uint8), torch.empty(0, dtype=torch.int64)
    for one in examples:
        if isinstance(one, Unreadable):
            return one
    batch: tuple[Tensor, Tensor] = default_collate(list(examples))
    return batch


def centred(image: Image.Image, size: int) -> Image.Image:
    """Shorter side to 8/7 of `size` (256 for 224), then the crop in the middle."""
    longest = LONGEST * min(image.size)
    if max(image.size) > longest:
        image = center_crop(image, [min(image.height, longest), min(image.width, longest)])
    middle: Image.Image = center_crop(resize(image, [round(size * RESIZE_RATIO)]), [size, size])
    return middle


def varied(image: Image.Image, size: int, seed: int) -> Image.Image:
    """A crop of 8 to 100 % of the area, 3:4 to 4:3, resized to `size`; half of them mirrored."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        cropped: Image.Image = RandomResizedCrop(size)(image)
        mirror = bool(torch.rand(()) < 0.5)
    if mirror:
        cropped = hflip(cropped)
    return cropped
