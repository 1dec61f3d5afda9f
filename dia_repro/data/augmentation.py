"""Augmentation of decoded images, drawn image by image, and normalisation.

Tables 10 and 11, caption.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from dia_repro.data.dataset import Colour


@dataclass(frozen=True)
class Augmentation:
    """Padding with zeros (black) before a random crop of the image's own size, and a flip.

    Attributes:
        padding: pixels on each side; 0 leaves images where they are.
        flip: whether half of the images are mirrored left to right.
    """

    padding: int
    flip: bool


AUGMENTATIONS = {
    "none": Augmentation(padding=0, flip=False),
    "shift1": Augmentation(padding=1, flip=False),
    "crop4-flip": Augmentation(padding=4, flip=True),
}


@dataclass(frozen=True)
class Draw:
    """Draws of one epoch for each training image.

    Attributes:
        tops, lefts: (N,) crop corners in the padded image, in pixels.
        flips: (N,) bool, whether the image is mirrored.
    """

    tops: Tensor
    lefts: Tensor
    flips: Tensor


def draw(augmentation: Augmentation, count: int, generator: torch.Generator) -> Draw:
    """Return independent draws for each of `count` images, on the generator's device."""
    corners = torch.randint(0, 2 * augmentation.padding + 1, (2, count), generator=generator)
    flips = torch.rand(count, generator=generator) < 0.5
    return Draw(corners[0], corners[1], flips & augmentation.flip)


def pad(pixels: Tensor, augmentation: Augmentation) -> Tensor:
    """Return (N, C, H, W) uint8 with the augmentation's border of zeros."""
    return functional.pad(pixels, (augmentation.padding,) * 4)


def crop(padded: Tensor, index: Tensor, drawn: Draw, size: tuple[int, int]) -> Tensor:
    """Take each image's own crop, mirrored where drawn, by one gather.

    Args:
        padded: (N, C, H + 2·padding, W + 2·padding) uint8.
        index: (B,) numbers of the images.
        drawn: the epoch's draws for all N images.
        size: H and W.

    Returns:
        (B, C, H, W) uint8.
    """
    height, width = size
    down = torch.arange(height, device=padded.device)
    across = torch.arange(width, device=padded.device)
    flips = drawn.flips[index, None]
    rows = drawn.tops[index, None] + down
    columns = drawn.lefts[index, None] + torch.where(flips, width - 1 - across, across)
    channels = torch.arange(padded.shape[1], device=padded.device)
    return padded[
        index[:, None, None, None],
        channels[None, :, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]


class Normalisation:
    """(x / 255 - mean) / std as one multiplication and one addition for each pixel.

    Args:
        mean, std: per channel, of pixels scaled to [0, 1].
    """

    def __init__(self, mean: Colour, std: Colour, device: torch.device) -> None:
        deviation = torch.tensor(std, device=device).view(1, 3, 1, 1)
        centre = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self.scale, self.shift = 1 / (255 * deviation), -centre / deviation

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return float32, channels last, of (B, 3, H, W) uint8."""
        floats = pixels.to(torch.float32, memory_format=torch.channels_last)
        return floats.mul_(self.scale).add_(self.shift)
