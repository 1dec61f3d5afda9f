"""Stores of checkpoints: folders of a disk, or objects of a store that machines share.

A store knows a few operations on bytes with a name, by fsspec's file systems (S3 by pyarrow's
client). `checkpoint` says what a checkpoint is, which of them are sound and which are kept.

A file is whole or not there. On a disk it is written under another name, flushed and renamed. An
object is put in one go; where storage may show half of one, its name tells, which carries the
digest of the whole.
"""

from __future__ import annotations

import os
import re
import shutil
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from dia_repro.atomic import write_file
from dia_repro.errors import MASK, AbsentError, DiaReproError, UsageError, displayed

ON_DISK = ("file", "local")
REASON_CHARACTERS = 200
S3 = "s3"
S3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
S3_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")


class CheckpointError(DiaReproError):
    """A checkpoint cannot be written or read, or belongs to another run."""


@dataclass(frozen=True)
class Store:
    """The checkpoints of all runs, or one run's part of them; files have relative names.

    A connection belongs to its process: only the location is sent to others.

    Attributes:
        location: a folder, or a URL of a kind that fsspec knows. The latter may hold a password,
            which is never shown.
        path: path of a run's part, `spec/run`; empty for the whole.
    """

    location: Path | str = field(repr=False)
    path: str = ""

    def __str__(self) -> str:
        return self.shown()

    @property
    def name(self) -> str:
        """Location without a password, to be shown and kept."""
        return str(self.location) if self.root else displayed(str(self.location))

    @property
    def root(self) -> Path | None:
        """Folder on this machine's file systems; None where it has none."""
        return self.location if isinstance(self.location, Path) else None

    def part(self, path: str) -> Store:
        """Return a run's part of the whole store."""
        return replace(self, path=path)

    def absolute(self) -> Store:
        """Return the same store for a process with another working folder, or one that is gone."""
        return replace(self, location=Path(_absolute(self.root))) if self.root else self

    def shown(self, name: str = "") -> str:
        """Return the location of a file, for people."""
        return "/".join(filter(None, (self.name, self.path, name)))

    def names(self) -> list[str]:
        """Return the names of the files right in it; none where it is not there."""
        with self._reaching("read") as (files, place):
            files.invalidate_cache()
            try:
                found = files.ls(place, detail=False)
            except FileNotFoundError:
                return []
            return [str(path).rstrip("/").rsplit("/", 1)[-1] for path in found]

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        with self._reaching("read", name) as (files, place):
            return bytes(files.cat_file(place))

    def write(self, name: str, content: bytes) -> None:
        """Make or replace a file; folders are made if need be.

        An object store is asked afterwards whether it has all bytes.
        """
        with self._reaching("write", name) as (files, place):
            if self.root:
                write_file(Path(place), content)
                return
            try:
                files.pipe_file(place, content)
            except FileNotFoundError:
                if urlsplit(str(self.location)).scheme == S3:
                    raise  # S3 has no folders: the bucket is not there
                self._make_folders(name)
                files.pipe_file(place, content)
            files.invalidate_cache()
            size = files.info(place)["size"]
            if size != len(content):
                raise OSError(f"of {len(content)} bytes it has {size}")

    def remove(self, name: str) -> None:
        """Remove a file or folder, which need not be there; "" is the store's part itself.

        Raises:
            CheckpointError: it cannot be removed, or leads out of the store's folder.
        """
        if self.root:
            whole = self.root / self._within(name)
            inside = whole.parent.resolve().is_relative_to(self.root.resolve())
            if not inside or ".." in Path(self._within(name)).parts:
                raise CheckpointError(f"{whole} leads out of {self.root}: nothing was removed")
        with self._reaching("write", name) as (files, place), suppress(FileNotFoundError):
            if self.root:
                _remove_from_disk(Path(place))
            elif name:
                files.rm_file(place)
            else:  # object stores have no folders, once the files in them are gone
                files.invalidate_cache()
                if files.isdir(place):
                    files.rm(place, recursive=True)

    def run_folders(self) -> dict[str, int]:
        """Return the folders of runs, `spec/run`, with their bytes, by one listing."""
        sizes: dict[str, int] = {}
        with self._reaching("read") as (files, root):
            files.invalidate_cache()
            for path, known in files.find(root, withdirs=True, detail=True).items():
                parts = str(path)[len(root) :].strip("/").split("/")
                if len(parts) >= 2 and parts[1].startswith("seed-"):
                    folder, is_file = "/".join(parts[:2]), known["type"] == "file"
                    size = int(known["size"] or 0) if is_file and len(parts) > 2 else 0
                    sizes[folder] = sizes.get(folder, 0) + size
        return dict(sorted(sizes.items()))

    def _within(self, name: str) -> str:
        """Return a file's name from the whole store's folder on."""
        return "/".join(filter(None, (self.path, name)))

    def _connect(self, path: str) -> tuple[Any, str]:
        """Return this process's file system, and the whole path of a relative one."""
        if self.root:
            from fsspec.implementations.local import LocalFileSystem

            files, root = LocalFileSystem(), _absolute(self.root)
        elif urlsplit(str(self.location)).scheme == S3:
            files, root = _s3(str(self.location))
        else:
            from fsspec.core import url_to_fs

            files, root = url_to_fs(self.location)
        return files, f"{root.rstrip('/')}/{path}".rstrip("/")

    def _make_folders(self, name: str) -> None:
        """Make the folders above a file, one by one below one that is there."""
        files, root = self._connect("")
        parts = self._within(name).split("/")[:-1]
        for folder in accumulate((root, *parts), "{}/{}".format):
            if "/" in folder.strip("/"):
                with suppress(FileExistsError):
                    files.mkdir(folder, create_parents=False)

    @contextmanager
    def _reaching(self, what: str, name: str = "") -> Iterator[tuple[Any, str]]:
        """Connect; the errors of every kind of storage become `CheckpointError`, in one line."""
        path = self._within(name)
        try:
            yield self._connect(path)
        except Exception as error:
            action = "read" if what == "read" else "write a checkpoint to"
            shown = path if what == "read" else path.rpartition("/")[0]
            where = f"{self.name}/{shown}".rstrip("/")
            raise CheckpointError(f"cannot {action} {where}: {self._reason(error)}") from error

    def _reason(self, error: Exception) -> str:
        if isinstance(error, NotImplementedError):
            return "this kind of storage cannot do that"
        text = (error.strerror if isinstance(error, OSError) else None) or str(error)
        secret = None if self.root else urlsplit(str(self.location)).password
        for written in (secret, unquote(secret)) if secret else ():
            text = text.replace(written, MASK)
        text = textwrap.shorten(displayed(text), REASON_CHARACTERS, placeholder=" …")
        if isinstance(error, FileNotFoundError) and " " not in text:
            return f"{text or 'it'} is not there"
        return text or type(error).__name__


def _absolute(path: Path) -> str:
    """Return a path without "..", which would lead through a folder that may be removed."""
    return os.path.abspath(path)  # noqa: PTH100 - keeps links


def _remove_from_disk(path: Path) -> None:
    """Remove a file, a link or a folder, which may be the working folder: fsspec refuses that."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


@cache
def _s3(url: str) -> tuple[Any, str]:
    """Return the file system of a bucket by pyarrow, and the path in it.

    Keys, region and endpoint are taken from the environment and from AWS's own files.
    """
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow.fs import S3FileSystem, resolve_s3_region

    parts = urlsplit(url)
    bucket = parts.netloc.rpartition("@")[2]
    endpoint = next(filter(None, map(os.environ.get, S3_ENDPOINTS)), None)
    region = next(filter(None, map(os.environ.get, S3_REGIONS)), None)
    if region is None and endpoint is None:  # by a request that only Amazon answers
        region = resolve_s3_region(bucket)
    client = S3FileSystem(
        access_key=unquote(parts.username) if parts.username else None,
        secret_key=unquote(parts.password) if parts.password else None,
        region=region,
        endpoint_override=endpoint,
        allow_delayed_open=True,  # small objects in one put
    )
    return ArrowFSWrapper(client), f"{bucket}{parts.path}"


def store_at(location: str) -> Store:
    """Return the store that a user names, without reaching for it yet.

    Args:
        location: a folder's path, or a URL of a kind that fsspec knows: s3://BUCKET/FOLDER, …

    Raises:
        UsageError: it is neither, or what such a store keeps is gone with the process.
        AbsentError: the package for such a URL is not installed.
    """
    if not location.strip():
        raise UsageError("--checkpoints needs a folder or a URL")
    if "://" not in location:
        return Store(Path(location))
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
        return Store(Path(unquote(parts.path)))
    if not PurePosixPath(parts.netloc + parts.path).name:
        raise UsageError(f"--checkpoints {shown!r} names no path: write {parts.scheme}://PATH")
    _check_kind(parts.scheme, shown)
    return Store(location.rstrip("/"))


def _check_kind(scheme: str, shown: str) -> None:
    """See that storage of a kind is known, keeps what it is given, and has its package here."""
    from fsspec.registry import get_filesystem_class, known_implementations

    if scheme == "memory":
        raise UsageError("--checkpoints memory://: what is kept in memory is lost at the end")
    try:
        if scheme == S3:
            import pyarrow.fs  # noqa: F401 - only whether it is there
        else:
            get_filesystem_class(scheme)
    except ValueError as error:
        raise UsageError(
            f"--checkpoints {shown!r}: there is no kind of storage called {scheme}"
        ) from error
    except ImportError as error:
        package = known_implementations[scheme]["class"].split(".")[0]
        package = "'dia-repro[s3]'" if scheme == S3 else package
        hint = error.msg if package == "fsspec" else f"pip install {package}"
        raise AbsentError(f"checkpoints at {scheme}:// need another package: {hint}") from error
