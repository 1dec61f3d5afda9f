"""From an image file to the tensor that a network sees; imports torchvision, which takes long."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.functional import center_crop, hflip, pil_to_tensor, resize

from dia_repro.data.dataset import DataError
from dia_repro.data.folder import Files

# The shorter side before the centre crop, as a multiple of the crop's: 256 for 224.
RESIZE_RATIO = 256 / 224


class Decoded(Dataset[tuple[Tensor, int]]):
    """Images by number, as (3, S, S) uint8 and label.

    Args:
        root: folder that the paths of `split` begin at.
        split: the images.
        size: side of what comes out, in pixels.
        seeds: (N,) for each image's random crop and flip; None leaves them at the centre.
    """

    def __init__(self, root: Path, split: Files, size: int, seeds: Tensor | None) -> None:
        self.root, self.split, self.size, self.seeds = root, split, size, seeds

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path = self.root / self.split.paths[index].decode()
        try:
            with Image.open(path) as file:
                image = file.convert("RGB")
        except Exception as error:  # decoders raise what they like
            raise DataError(f"{path} cannot be decoded any more: {error}") from error
        if self.seeds is None:
            image = centred(image, self.size)
        else:
            image = varied(image, self.size, int(self.seeds[index]))
        return pil_to_tensor(image), int(self.split.labels[index])


def centred(image: Image.Image, size: int) -> Image.Image:
    """Shorter side to 8/7 of `size` (256 for 224), then the crop in the middle."""
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
