"""Where runs keep their checkpoints: folders of a disk, or objects of a store that machines share.

A store knows a few operations on bytes with a name. What a checkpoint is, which of them are sound
and which are kept, `checkpoint` says, once for all stores.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from dia_repro.errors import DiaReproError, UsageError, displayed

ON_DISK = ("file", "local")


class CheckpointError(DiaReproError):
    """A checkpoint cannot be written or read, or belongs to another run."""


class Store(ABC):
    """Holds the checkpoints of all runs; files have relative names, `spec/run/file`."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Where it is, as it may be shown and kept: without a password."""

    @property
    @abstractmethod
    def root(self) -> Path | None:
        """Its folder on this machine's file systems; None where it has none."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Of the files right in a folder; none where there is no such folder."""

    @abstractmethod
    def read(self, path: str) -> bytes:
        """A file's bytes."""

    @abstractmethod
    def write(self, path: str, content: bytes) -> None:
        """Make a file, or put other bytes in its place; folders are made if need be."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """Remove a file, which need not be there."""

    @abstractmethod
    def remove_folder(self, folder: str) -> None:
        """Remove what is left of a folder whose files are gone."""

    @abstractmethod
    def run_folders(self) -> dict[str, int]:
        """The folders of runs, `spec/run`, with their bytes."""

    def absolute(self) -> Store:
        """The same place for a process with another working folder."""
        return self


@dataclass(frozen=True)
class Folder:
    """One run's part of a store.

    Attributes:
        path: relative, `spec/run`.
    """

    store: Store
    path: str

    def __str__(self) -> str:
        return self.shown("").rstrip("/")

    def shown(self, name: str) -> str:
        """A file of it, for people."""
        return f"{self.store.name}/{self.path}/{name}"

    def names(self) -> list[str]:
        """Of its files."""
        return self.store.names(self.path)

    def read(self, name: str) -> bytes:
        """A file's bytes."""
        return self.store.read(f"{self.path}/{name}")

    def write(self, name: str, content: bytes) -> None:
        """Make or replace a file."""
        self.store.write(f"{self.path}/{name}", content)

    def remove(self, name: str) -> None:
        """Remove a file, which need not be there."""
        self.store.remove(f"{self.path}/{name}")

    def remove_all(self) -> None:
        """Remove it with what is left in it."""
        self.store.remove_folder(self.path)


def store_at(location: str) -> Store:
    """The store that a user names.

    Args:
        location: a folder's path, or a URL of a kind that fsspec knows: s3://BUCKET/FOLDER, …

    Raises:
        UsageError: it is neither.
        AbsentError: the package for such a URL is not installed.
    """
    from dia_repro.training.disk import Disk

    if not location.strip():
        raise UsageError("--checkpoints needs a folder or a URL")
    if "://" not in location:
        return Disk(Path(location))
    shown = displayed(location)
    if not re.match(r"[a-z][a-z0-9+.-]*://", location):
        raise UsageError(f"--checkpoints {shown!r} is neither a folder nor a URL")
    if "?" in location or "#" in location:
        kept = re.split(r"[?#]", shown)[0]
        raise UsageError(f"--checkpoints {kept!r}: a URL of a store takes no ? and no #")
    try:
        parts = urlsplit(location)
        _ = parts.port  # a "/" in a password ends the host, and leaves some of it as the port
    except ValueError as error:
        raise UsageError(
            f"--checkpoints {shown!r} is not a URL. A password in it has no / or [; "
            "in a key of S3 write them as %2F and %5B"
        ) from error
    if parts.scheme in ON_DISK:
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise UsageError(f"--checkpoints {shown!r}: write file:///FOLDER")
        return Disk(Path(unquote(parts.path)))
    if not PurePosixPath(parts.netloc + parts.path).name:
        raise UsageError(f"--checkpoints {shown!r} names no place: write {parts.scheme}://PLACE")
    from dia_repro.training.objects import Objects

    return Objects.at(location)
