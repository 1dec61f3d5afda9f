"""Lists of the images in class folders: train/CLASS/… and test/CLASS/… or val/CLASS/….

For a user's own images, and ImageNet. Nothing is decoded here: `inspection` does that.

Hidden files and folders (whose names begin with a dot) are left out, and so is all that is neither
a regular file nor a folder. Links are followed, but each folder is entered once in a class, and a
link to a folder that it is in itself is not: neither a loop nor two ways to a folder multiply
images.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from dia_repro.data.opening import Facts, facts_of, read_file
from dia_repro.data.registry import DataError, reading

TEST_NAMES = ("test", "val")
JPEG_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".jpe")
SUFFIXES = (*JPEG_SUFFIXES, ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
# Pictures that are not read; a remark counts them.
UNUSED = (
    *(".gif", ".avif", ".heic", ".heif", ".jp2", ".j2k", ".jpx", ".jxl", ".jxr", ".svg", ".eps"),
    *(".psd", ".tga", ".ico", ".pbm", ".pnm", ".pcx", ".dib", ".exr", ".hdr", ".dcm"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"),
)
LEAST_CLASSES = 2

Image = tuple[str, str, Facts]  # its folder, name and facts


@dataclass(frozen=True)
class Files:
    """Image files: a `Split`.

    Attributes:
        root: the folder.
        paths: (N,) bytes, relative to the folder; fixed width, since a list of a million
            strings would be copied, page by page, into each worker process.
        labels: (N,) int64.
        facts: (N, 4) int64, `facts_of` each file when it was listed.
    """

    root: Path
    paths: np.ndarray
    labels: np.ndarray
    facts: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> list[str]:
        """Paths, relative to the folder."""
        return [os.fsdecode(path) for path in self.paths]

    def file(self, index: int) -> Path:
        """Return the path of an image's file."""
        return self.root / os.fsdecode(self.paths[index])

    def read(self, index: int, since: str = "the run began") -> bytes:
        """Return the bytes of an image's file; see `Split`.

        Args:
            since: time since which it must not have changed, for the message.
        """
        return read_file(self.file(index), self.facts[index].tolist(), since)

    def describe(self, index: int) -> str:
        """Return the path of an image's file, for messages."""
        return str(self.file(index))

    def at(self, indices: np.ndarray) -> Files:
        """Return some of the images."""
        return Files(self.root, self.paths[indices], self.labels[indices], self.facts[indices])

    def without(self, names: frozenset[str]) -> Files:
        """Return the images without those of some names."""
        return self.at(np.array([name not in names for name in self.names], bool))

    def followed_by(self, other: Files) -> Files:
        """Return these images, and others of the same folder after them."""
        return Files(
            self.root,
            np.concatenate((self.paths, other.paths)),
            np.concatenate((self.labels, other.labels)),
            np.concatenate((self.facts, other.facts)),
        )


@dataclass(frozen=True)
class ImageFolder:
    """Files of a folder, in order of their paths.

    Attributes:
        root: the folder.
        classes: names of the class folders in train/, sorted; a label is an index into it.
        test_names: folders of test images that are there; the first is taken.
        unused: number of files of each suffix of `UNUSED`.
    """

    root: Path
    classes: tuple[str, ...]
    train: Files
    test: Files
    test_names: tuple[str, ...] = TEST_NAMES[:1]
    unused: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def images(self) -> Files:
        """Training images, and test images after them."""
        return self.train.followed_by(self.test)

    @property
    def signature(self) -> str:
        """SHA-256 of the path, and of all names, sizes, inodes and times of change.

        Another one means look again. Inode and ctime are there because archives and copies can
        give another file of the same size the same mtime.
        """
        digest = hashlib.sha256(os.fsencode(self.root) + b"\0")
        for path in self.images.paths:
            digest.update(path + b"\0")
        digest.update(self.images.facts.tobytes())
        return digest.hexdigest()

    @property
    def remarks(self) -> list[str]:
        """Sentences on how it was read, without a full stop."""
        used, *rest = self.test_names
        said = [f"{self.root} has {used}/ and {rest[0]}/: {used}/ is tested on"] if rest else []
        if self.unused:
            counts = ", ".join(f"{count:,} {suffix}" for suffix, count in self.unused.items())
            said.append(
                f"{self.root} has files that are not used, by suffix: {counts}; "
                "convert them to .png or .jpg to train on them"
            )
        return said


def scan(root: Path, test_names: Sequence[str] = TEST_NAMES) -> ImageFolder:
    """List the images of a folder.

    Args:
        test_names: possible names of the folder of test images; the first that is there is taken.

    Raises:
        DataError: it is not there, cannot be read, is not laid out in splits and classes, has an
            empty class, only one, or one without test images.
    """
    unused: Counter[str] = Counter()
    with reading(root):
        if not root.is_dir():
            raise DataError(f"there is no folder {root}")
        tests = tuple(name for name in test_names if (root / name).is_dir())
        if not (root / "train").is_dir() or not tests:
            wanted = " or ".join(f"{name}/CLASS/" for name in test_names)
            raise DataError(f"{root} needs train/CLASS/ and {wanted} with images")
        classes, train = _split(root, "train", unused)
        tested, test = _split(root, tests[0], unused)
    unknown, untested = sorted({*tested} - {*classes}), sorted({*classes} - {*tested})
    if unknown:
        raise DataError(f"{root / tests[0]} has a class that train/ lacks: {unknown[0]}")
    if untested:
        raise DataError(f"{root / tests[0]} lacks a class that train/ has: {untested[0]}")
    if len(classes) < LEAST_CLASSES:
        raise DataError(f"{root} has one class only, {classes[0]}: there is nothing to tell apart")
    return ImageFolder(root, tuple(classes), train, test, tests, dict(sorted(unused.items())))


def sample(root: Path, count: int, classes: int = 20) -> Files:
    """Return random images of random classes in train/, and list no others."""
    found: list[Image] = []
    with reading(root):
        folders = [Path(entry.path) for entry in _entries(root / "train") if entry.is_dir()]
        chosen = random.sample(folders, min(classes, len(folders)))
        for folder in chosen:
            inside = _images(folder, set(), Counter())
            found += random.sample(inside, min(-(-count // len(chosen)), len(inside)))
    if not found:
        raise DataError(f"there are no images in {root / 'train'}")
    return _files(root, [found])


def _split(root: Path, name: str, unused: Counter[str]) -> tuple[list[str], Files]:
    folder = root / name
    above = {_folder_id(root), _folder_id(folder)}
    classes = [
        entry.name
        for entry in _entries(folder)
        if entry.is_dir() and not (entry.is_symlink() and _folder_id(entry.path) in above)
    ]
    if not classes:
        raise DataError(f"{folder} is not a folder of image folders: it has no folder in it")
    images = [_images(folder / category, above, unused) for category in classes]
    for category, found in zip(classes, images, strict=True):
        if not found:
            raise DataError(f"{folder / category} has no image ({', '.join(SUFFIXES)})")
    return classes, _files(root, images)


def _files(root: Path, images: Sequence[Sequence[Image]]) -> Files:
    """Return the images of each class together."""
    every = [found for of_class in images for found in of_class]
    # Of each folder once: of each of a million images it takes a minute.
    below = {folder: Path(folder).relative_to(root) for folder in {found[0] for found in every}}
    return Files(
        root,
        np.array([os.fsencode(f"{below[folder]}/{name}") for folder, name, _ in every]),
        np.repeat(np.arange(len(images)), [len(of_class) for of_class in images]),
        np.array([facts for _, _, facts in every], dtype=np.int64),
    )


def _images(folder: Path, above: set[tuple[int, int]], unused: Counter[str]) -> list[Image]:
    """Return the images in a folder and those in it, in order.

    Args:
        above: identities of the folders that it is in.
        unused: counts files of each suffix of `UNUSED`.
    """
    found: list[Image] = []
    entered = set(above)
    links = [str(folder)]
    for link in links:  # which grows: what is there itself comes before what links lead to
        inside = [link]
        while inside:
            here = inside.pop()
            identity = _folder_id(here)
            if identity in entered:
                continue
            entered.add(identity)
            for entry in _entries(here):
                if entry.is_dir():
                    (links if entry.is_symlink() else inside).append(entry.path)
                elif entry.is_file():
                    suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - of millions
                    if suffix in SUFFIXES:
                        found.append((here, entry.name, facts_of(entry.stat())))
                    elif suffix in UNUSED:
                        unused[suffix] += 1
    return sorted(found)


def _folder_id(path: Path | str) -> tuple[int, int]:
    """Return device and inode, which identify a folder whatever its name."""
    status = os.stat(path)  # noqa: PTH116 - of a path as text, too
    return status.st_dev, status.st_ino


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """Return what is in a folder and not hidden, by name; refuse links that lead nowhere."""
    with os.scandir(folder) as entries:
        shown = [entry for entry in entries if not entry.name.startswith(".")]
    for entry in shown:
        if entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110 - of millions
            raise DataError(f"{entry.path} is a link that leads nowhere: mend or delete it")
    return sorted(shown, key=lambda entry: entry.name)
