"""Checkpoints in an object store that all machines reach, through fsspec.

S3 is reached by pyarrow's client, every other kind of storage by the package that fsspec names.

An object is put in one go, and a store shows it whole or not at all. Where a kind of storage does
not keep that promise, a half-written file is known by its name, which carries its digest.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit

from dia_repro.errors import MASK, AbsentError, UsageError, displayed
from dia_repro.training.store import CheckpointError, Store

REASON_CHARACTERS = 200
S3 = "s3"
S3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
S3_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")


@dataclass(frozen=True)
class Objects(Store):
    """Objects below a URL. Its connection belongs to the process: only the URL is sent to others.

    Args:
        url: may hold a password, which is never shown.
    """

    url: str = field(repr=False)

    @classmethod
    def at(cls, url: str) -> Objects:
        """The store of a URL, without reaching for it yet.

        Raises:
            UsageError: fsspec knows no such kind, or what it keeps is gone with the process.
            AbsentError: the package for it is not installed.
        """
        from fsspec.registry import get_filesystem_class, known_implementations

        scheme = urlsplit(url).scheme
        if scheme == "memory":
            raise UsageError("--checkpoints memory://: what is kept in memory is lost at the end")
        try:
            if scheme == S3:
                import pyarrow.fs  # noqa: F401 - only whether it is there
            else:
                get_filesystem_class(scheme)
        except ValueError as error:
            raise UsageError(
                f"--checkpoints {displayed(url)!r}: there is no kind of storage called {scheme}"
            ) from error
        except ImportError as error:
            package = known_implementations[scheme]["class"].split(".")[0]
            package = "'dia-repro[s3]'" if scheme == S3 else package
            hint = error.msg if package == "fsspec" else f"pip install {package}"
            raise AbsentError(f"checkpoints at {scheme}:// need another package: {hint}") from error
        return cls(url.rstrip("/"))

    @property
    def name(self) -> str:
        """The URL without a password."""
        return displayed(self.url)

    @property
    def root(self) -> None:
        """It has no folder on this machine."""
        return

    def names(self, folder: str) -> list[str]:
        """Of the objects right in a folder; none where there is no such folder."""
        with self._reaching("read"):
            files, place = self._connect(folder)
            files.invalidate_cache()
            try:
                found = files.ls(place, detail=False)
            except FileNotFoundError:
                return []
            return [str(path).rstrip("/").rsplit("/", 1)[-1] for path in found]

    def read(self, path: str) -> bytes:
        """An object's bytes."""
        with self._reaching("read"):
            files, place = self._connect(path)
            return bytes(files.cat_file(place))

    def write(self, path: str, content: bytes) -> None:
        """In one put; the store is asked afterwards whether it has all of it."""
        with self._reaching("write"):
            files, place = self._connect(path)
            try:
                files.pipe_file(place, content)
            except FileNotFoundError:
                if urlsplit(self.url).scheme == S3:
                    raise  # there are no folders, so that it is the bucket that is not there
                self._make_folders(path)
                files.pipe_file(place, content)
            files.invalidate_cache()
            size = files.info(place)["size"]
            if size != len(content):
                raise OSError(f"of {len(content)} bytes it has {size}")

    def remove(self, path: str) -> None:
        """Remove an object, which need not be there."""
        with self._reaching("write"):
            files, place = self._connect(path)
            with suppress(FileNotFoundError):
                files.rm_file(place)

    def remove_folder(self, folder: str) -> None:
        """Remove what is left of a folder whose objects are gone; object stores have none."""
        with self._reaching("write"):
            files, place = self._connect(folder)
            files.invalidate_cache()
            if files.isdir(place):
                files.rm(place, recursive=True)

    def run_folders(self) -> dict[str, int]:
        """The folders of runs, `spec/run`, with their bytes, by one listing."""
        sizes: dict[str, int] = {}
        with self._reaching("read"):
            files, root = self._connect("")
            files.invalidate_cache()
            for path, known in files.find(root, detail=True).items():
                parts = str(path)[len(root) :].strip("/").split("/")
                if len(parts) == 3 and parts[1].startswith("seed-"):
                    folder = "/".join(parts[:2])
                    sizes[folder] = sizes.get(folder, 0) + int(known["size"] or 0)
        return dict(sorted(sizes.items()))

    def _connect(self, path: str) -> tuple[Any, str]:
        """The file system of this process, and where a relative path is in it."""
        from fsspec.core import url_to_fs

        files, root = _s3(self.url) if urlsplit(self.url).scheme == S3 else url_to_fs(self.url)
        return files, f"{root.rstrip('/')}/{path}".rstrip("/")

    def _make_folders(self, path: str) -> None:
        # One by one, and never the first: `makedirs` would make a bucket that is not there.
        files, root = self._connect("")
        parts = path.split("/")[:-1]
        folders = [root, *("/".join([root, *parts[: count + 1]]) for count in range(len(parts)))]
        for folder in folders:
            if "/" in folder.strip("/"):
                with suppress(FileExistsError):
                    files.mkdir(folder, create_parents=False)

    @contextmanager
    def _reaching(self, what: str) -> Iterator[None]:
        """Each kind of storage has errors of its own: all become `CheckpointError`, in one line."""
        try:
            yield
        except Exception as error:
            action = "read checkpoints in" if what == "read" else "write a checkpoint to"
            raise CheckpointError(f"cannot {action} {self.name}: {self._reason(error)}") from error

    def _reason(self, error: Exception) -> str:
        if isinstance(error, NotImplementedError):
            return "this kind of storage cannot do that"
        text = (error.strerror if isinstance(error, OSError) else None) or str(error)
        secret = urlsplit(self.url).password
        for written in (secret, unquote(secret)) if secret else ():
            text = text.replace(written, MASK)
        text = textwrap.shorten(displayed(text), REASON_CHARACTERS, placeholder=" …")
        if isinstance(error, FileNotFoundError) and " " not in text:
            return f"{text or 'it'} is not there"
        return text or type(error).__name__


@cache
def _s3(url: str) -> tuple[Any, str]:
    """The file system of a bucket by pyarrow, and the path in it.

    Keys, region and endpoint are taken from the environment and from AWS's own files.
    """
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow.fs import S3FileSystem, resolve_s3_region

    parts = urlsplit(url)
    bucket = parts.netloc.rpartition("@")[2]
    endpoint = next(filter(None, map(os.environ.get, S3_ENDPOINTS)), None)
    region = next(filter(None, map(os.environ.get, S3_REGIONS)), None)
    if region is None and endpoint is None:  # a request of its own, which Amazon alone answers
        region = resolve_s3_region(bucket)
    client = S3FileSystem(
        access_key=unquote(parts.username) if parts.username else None,
        secret_key=unquote(parts.password) if parts.password else None,
        region=region,
        endpoint_override=endpoint,
        allow_delayed_open=True,  # small objects in one put
    )
    return ArrowFSWrapper(client), f"{bucket}{parts.path}"
