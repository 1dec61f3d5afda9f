"""Handwritten digits that ship with scikit-learn: 1,797 real images of 8×8 pixels, 10 classes.

E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI, 1998 (its test part).
Of each class every fifth image, in the data set's order, is a test image: 1,442 for training,
355 for testing. The grey value is repeated in three channels, so that the networks are the
paper's, stem included.
"""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dia_repro.data.dataset import Dataset, as_images
from dia_repro.data.registry import register_known

TEST_EVERY = 5
SIDE = 8
GREY_STEP = 15  # the pixels' grey values run from 0 to 16; 16 · 15 = 240 fits into uint8

# Of the training images, scaled to [0, 1].
MEAN, STD = 0.2872, 0.3540


def load_digits(image_size: int = SIDE) -> Dataset:
    """Return the digits with their fixed split; needs no file and no network.

    Args:
        image_size: side in pixels; a multiple of 8 enlarges each pixel to a square.
    """
    import torch
    from torch import nn

    table = torch.from_numpy(_table())
    grey = table[:, :-1].reshape(-1, SIDE, SIDE) * GREY_STEP
    enlarged = grey.repeat_interleave(image_size // SIDE, 1)
    enlarged = enlarged.repeat_interleave(image_size // SIDE, 2)
    pixels = enlarged[:, None].expand(-1, 3, -1, -1)
    labels = table[:, -1].long()
    rank_in_class = nn.functional.one_hot(labels).cumsum(0).gather(1, labels[:, None])[:, 0] - 1
    is_test = rank_in_class % TEST_EVERY == TEST_EVERY - 1
    return Dataset(
        name="digits",
        train=as_images(pixels[~is_test], labels[~is_test]),
        test=as_images(pixels[is_test], labels[is_test]),
        mean=(MEAN, MEAN, MEAN),
        std=(STD, STD, STD),
    )


def _table() -> NDArray[np.uint8]:
    """Return pixels and label of each image: (1797, 65).

    From the file itself, since importing scikit-learn takes longer than an epoch of the demo.
    """
    file = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    if Path(str(file)).exists():
        return np.loadtxt(str(file), dtype=np.uint8, delimiter=",")
    from sklearn.datasets import load_digits as load_sklearn_digits

    bunch = load_sklearn_digits()
    return np.column_stack([bunch.data, bunch.target]).astype(np.uint8)


register_known(
    "digits",
    classes=10,
    image_size=SIDE,
    augmentation="none",
    training_images=1442,
    load=lambda spec, *_: load_digits(spec.image_size),
)
