"""Images in a folder a class: train/CLASS/… and test/CLASS/… or val/CLASS/….

A user's own images, and ImageNet. Nothing is decoded here: `inspection` does that.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

from dia_repro.data.dataset import DataError

TEST_NAMES = ("test", "val")


@dataclass(frozen=True)
class Files:
    """One split.

    Attributes:
        paths: (N,) bytes, relative to the folder; fixed width, since a list of a million
            strings would be copied, page by page, into each worker process.
        labels: (N,) int64.
    """

    paths: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def without(self, names: frozenset[str]) -> Files:
        """The split without those files."""
        kept = np.array([path.decode() not in names for path in self.paths], dtype=bool)
        return Files(self.paths[kept], self.labels[kept])


@dataclass(frozen=True)
class ImageFolder:
    """The files of a folder, in order of their paths.

    Attributes:
        root: the folder.
        classes: names of the class folders in train/, sorted; a label is a place in it.
    """

    root: Path
    classes: tuple[str, ...]
    train: Files
    test: Files

    @cached_property
    def names(self) -> list[str]:
        """All files, relative to the folder."""
        return [path.decode() for split in (self.train, self.test) for path in split.paths]

    @cached_property
    def signature(self) -> str:
        """SHA-256 of the place, and of all names, sizes, inodes and times of change.

        Another one means look again. Inode and ctime are there because archives and copies can
        give another file of the same size the same mtime.
        """
        digest = hashlib.sha256(f"{self.root}\0".encode())
        for name in self.names:
            status = (self.root / name).stat()
            facts = (status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
            digest.update(f"{name}\0{facts}\n".encode())
        return digest.hexdigest()


def scan(root: Path) -> ImageFolder:
    """List the images of a folder.

    Raises:
        DataError: it is not there, is not laid out in splits and classes, or has an empty class.
    """
    if not root.is_dir():
        raise DataError(f"there is no folder {root}")
    tests = [root / name for name in TEST_NAMES if (root / name).is_dir()]
    if not (root / "train").is_dir() or not tests:
        raise DataError(f"{root} needs train/CLASS/ and test/CLASS/ (or val/CLASS/) with images")
    train, train_classes = _split(root, root / "train")
    test, test_classes = _split(root, tests[0], train_classes)
    unknown = sorted(set(test_classes) - set(train_classes))
    if unknown:
        raise DataError(f"{tests[0]} has a class that train/ lacks: {unknown[0]}")
    return ImageFolder(root, tuple(train_classes), train, test)


def _split(
    root: Path, folder: Path, known: dict[str, int] | None = None
) -> tuple[Files, dict[str, int]]:
    try:
        classes, places = find_classes(str(folder))
        found = make_dataset(
            str(folder), {name: (known or places).get(name, 0) for name in classes}, IMG_EXTENSIONS
        )
    except FileNotFoundError as error:
        detail = str(error).splitlines()[0]
        raise DataError(f"{folder} is not a folder of image folders: {detail}") from error
    paths = np.array([str(Path(path).relative_to(root)).encode() for path, _ in found])
    return Files(paths, np.array([label for _, label in found], dtype=np.int64)), places
