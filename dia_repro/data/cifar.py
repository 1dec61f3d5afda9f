"""CIFAR-10 and CIFAR-100, from the folders that torchvision's loaders read.

A. Krizhevsky, G. Hinton: Learning multiple layers of features from tiny images, 2009.
Every file is compared with its known MD5 sum before anything in it is read.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import check_integrity

from dia_repro.data.dataset import DataError, Dataset, Images, as_images

SOURCES: dict[str, type[CIFAR10]] = {"cifar10": CIFAR10, "cifar100": CIFAR100}

# CIFAR-10's, used for both sets as is customary; of pixels scaled to [0, 1].
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)


def load_cifar(name: str, root: Path) -> Dataset:
    """CIFAR-10 (`cifar10`) or CIFAR-100 (`cifar100`, fine labels) from the folder `root`.

    Raises:
        DataError: a file is missing or does not have its known checksum.
    """
    source = SOURCES[name]
    _verify(name, source, root)
    return Dataset(
        name=name,
        train=_images(source(str(root), train=True)),
        test=_images(source(str(root), train=False)),
        mean=MEAN,
        std=STD,
    )


def fetch_cifar(name: str, root: Path) -> None:
    """Download and unpack the archive into `root`, unless its files are there already.

    Raises:
        DataError: the download failed, or what came is not the archive.
    """
    try:
        SOURCES[name](str(root), download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"could not get {name} from {SOURCES[name].url} ({error}): try again later, "
            f"or put {SOURCES[name].filename} into {root} by hand and repeat this command"
        ) from error


def _verify(name: str, source: type[CIFAR10], root: Path) -> None:
    folder = root / source.base_folder
    meta = (source.meta["filename"], source.meta["md5"])
    expected = [(file, md5) for file, md5 in [*source.train_list, *source.test_list, meta]]
    how = f"get it with 'dia-repro data fetch {name} --data {root}'"
    missing = [file for file, _ in expected if not (folder / file).is_file()]
    if len(missing) == len(expected):
        raise DataError(f"{name} is not in {folder}: {how}")
    if missing:
        raise DataError(f"{name} is incomplete, {folder / missing[0]} is missing: {how}")
    for file, md5 in expected:
        path = folder / file
        if not check_integrity(str(path), md5):
            raise DataError(
                f"{path} is damaged or not {name}'s (its MD5 sum is not {md5}): "
                f"delete it, then {how}"
            )


def _images(split: CIFAR10) -> Images:
    pixels = torch.from_numpy(split.data).permute(0, 3, 1, 2)
    return as_images(pixels, torch.tensor(split.targets))
