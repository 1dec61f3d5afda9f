"""CIFAR-10 and CIFAR-100, from the folders that torchvision's loaders read.

A. Krizhevsky, G. Hinton: Learning multiple layers of features from tiny images, 2009.
Every file is compared with its known MD5 sum before anything in it is read.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from dia_repro.data.dataset import Dataset, Images, as_images
from dia_repro.data.download import DownloadError, download, md5_of, unpack
from dia_repro.data.registry import DataError, OnProgress, reading, register_known
from dia_repro.errors import UsageError, displayed

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

# CIFAR-10's, used for both sets as is customary; of pixels scaled to [0, 1].
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)
MIRRORS = ("https://", "http://", "file://")


def load_cifar(name: str, root: Path) -> Dataset:
    """Return CIFAR-10 (`cifar10`) or CIFAR-100 (`cifar100`, fine labels) from the folder `root`.

    Raises:
        DataError: a file is missing or does not have its known checksum.
    """
    loader = loader_of(name)
    _verify(name, loader, root)
    train, test = (_images(loader(str(root), train=train)) for train in (True, False))
    return Dataset(name, train, test, MEAN, STD)


def loader_of(name: str) -> type[CIFAR10]:
    """Return torchvision's loader, which knows the set's files and where they come from."""
    from torchvision import datasets  # takes long to load

    loader: type[CIFAR10] = getattr(datasets, name.upper())
    return loader


def fetch_cifar(
    name: str, root: Path, on_progress: OnProgress | None = None, mirror: str | None = None
) -> None:
    """Download and unpack the archive into `root`, unless its files are there already.

    Args:
        mirror: URL of a copy of the archive, or of the folder that it is in.

    Raises:
        DataError: the download failed, or what came is not the archive.
        UsageError: the mirror is no URL of a known kind.
    """
    loader = loader_of(name)
    url = loader.url if mirror is None else _on_mirror(mirror, loader.filename)
    archive = root / loader.filename
    try:
        expected = _expected(loader, root)
        if all(md5_of(path) == md5 for path, md5 in expected.items()):
            return
        root.mkdir(parents=True, exist_ok=True)
        if md5_of(archive) != loader.tgz_md5:
            # What came from another host may be of another file.
            own = "" if mirror is None else f".{hashlib.sha256(url.encode()).hexdigest()[:8]}"
            download(url, archive, loader.tgz_md5, on_progress, part=f"{archive.name}{own}.part")
        files = {str(path.relative_to(root)): md5 for path, md5 in expected.items()}
        unpack(archive, root / loader.base_folder, files)
    except DownloadError as error:
        raise DataError(
            f"could not get {name} from {displayed(url)} ({error}): try again later, "
            f"or put {loader.filename} into {root} by hand and repeat this command"
        ) from error
    except OSError as error:
        raise DataError(f"cannot write {name} to {root}: {error.strerror or error}") from error


def _on_mirror(mirror: str, file: str) -> str:
    """Return the URL of the archive on a mirror."""
    if not mirror.lower().startswith(MIRRORS):
        raise UsageError(f"a mirror begins with {' or '.join(MIRRORS)}: not {displayed(mirror)}")
    if "@" in mirror.split("/")[2]:
        raise UsageError("a mirror cannot be given with a user and password: leave them out")
    return mirror if mirror.endswith(f"/{file}") else f"{mirror.rstrip('/')}/{file}"


def _expected(loader: type[CIFAR10], root: Path) -> dict[Path, str]:
    """Return the MD5 sums of the set's files."""
    meta = (loader.meta["filename"], loader.meta["md5"])
    files = [*loader.train_list, *loader.test_list, meta]
    return {root / loader.base_folder / name: md5 for name, md5 in files}


def _verify(name: str, loader: type[CIFAR10], root: Path) -> None:
    how = f"get it with 'dia-repro data fetch {name} --data {root}'"
    with reading(root):
        found = {path: md5_of(path) for path in _expected(loader, root)}
    missing = [path for path, md5 in found.items() if md5 is None]
    if len(missing) == len(found):
        raise DataError(f"{name} is not in {root / loader.base_folder}: {how}")
    if missing:
        raise DataError(f"{name} is incomplete, {missing[0]} is missing: {how}")
    for path, expected in _expected(loader, root).items():
        if found[path] != expected:
            raise DataError(
                f"{path} is damaged or not {name}'s (its MD5 sum is not {expected}): "
                f"delete it, then {how}"
            )


def _images(split: CIFAR10) -> Images:
    import torch

    pixels = torch.from_numpy(split.data).permute(0, 3, 1, 2)
    return as_images(pixels, torch.tensor(split.targets))


for _name, _classes in (("cifar10", 10), ("cifar100", 100)):
    register_known(
        _name,
        classes=_classes,
        image_size=32,
        augmentation="crop4-flip",
        training_images=50_000,
        load=lambda spec, location, _: load_cifar(spec.dataset, location.root),
        fetch=fetch_cifar,
    )
