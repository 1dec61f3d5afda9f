"""Downloads that continue where they stopped, and archives of which known files are unpacked."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import http.client
import io
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from dia_repro.atomic import NoFileError, flush_file, open_own, publish
from dia_repro.data.registry import OnProgress

SILENCE_SECONDS = 30.0  # after which a host is given up
MOST_DIGITS = 19  # of a length that is believed
CHUNK = 1 << 20
MOST_BYTES = 512 * CHUNK  # that an archive may unpack to: CIFAR's 186 MB, and room
MOST_SENT = 256 * CHUNK  # of an archive: CIFAR's 170 MB, and room
NETWORK_ERRORS = (OSError, http.client.HTTPException, ValueError)
ARCHIVE_ERRORS = (OSError, EOFError, tarfile.TarError, zlib.error, ValueError, OverflowError)


class DownloadError(Exception):
    """The file that was asked for did not come, or not as it should be."""


def md5_of(path: Path) -> str | None:
    """Return a file's MD5 sum; None where there is no file, "" of a size that no archive has."""
    if not path.is_file():
        return None
    if not 0 < path.stat().st_size <= MOST_BYTES:  # as some of /proc, which never end
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()


def download(
    url: str,
    target: Path,
    md5: str,
    on_progress: OnProgress | None = None,
    *,
    part: str,
) -> None:
    """Download a file whole, or not at all.

    Args:
        part: name of a file next to it, in which what has come of it is kept; the next download
            from this host continues from there.

    Raises:
        DownloadError: the host cannot be reached, broke off, or sent something else or too much,
            another process downloads the same file, or a link has the name of its part.
    """
    partial = target.with_name(part)
    try:
        with _locked(partial) as file:
            _receive(url, file, on_progress)
            flush_file(file)
            found = md5_of(partial)
            if found != md5:
                with partial.open("rb") as sent:
                    is_page = sent.read(CHUNK).lstrip()[:1] == b"<"
                partial.unlink()
                what = "a web page" if is_page else f"a file with the MD5 sum {found}"
                raise DownloadError(f"{what} came instead of the one with {md5}")
            publish(partial, target)
    except NoFileError as error:
        raise DownloadError(f"{error.filename}: {error.strerror}: delete it") from error
    except NETWORK_ERRORS as error:
        raise DownloadError(str(error) or type(error).__name__) from error


@contextmanager
def _locked(part: Path) -> Iterator[IO[bytes]]:
    """Open a part of a download to append to it, unless another process has it."""
    with open_own(part, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DownloadError("another process is downloading it") from None
        if not (part.exists() and os.path.samestat(part.stat(), os.fstat(file.fileno()))):
            raise DownloadError("another process has just ended its download")
        try:
            yield file
        finally:
            file.flush()
            if not os.fstat(file.fileno()).st_size:
                part.unlink(missing_ok=True)


def _receive(url: str, part: IO[bytes], on_progress: OnProgress | None) -> None:
    held = os.fstat(part.fileno()).st_size
    with _ask(url, held) as answer:
        if held and answer.headers.get_content_type() == "text/html":  # as of a hotel's network
            raise DownloadError("a web page came instead; what has come before is kept")
        if not str(answer.headers.get("Content-Range", "")).startswith(f"bytes {held}-"):
            held = part.truncate(0)
        said = answer.headers.get("Content-Length", "")
        length = int(said) if said.isdecimal() and len(said) < MOST_DIGITS else 0
        total = held + length if length else 0
        while chunk := answer.read(CHUNK):
            if held + len(chunk) > MOST_SENT:
                part.truncate(0)
                raise DownloadError(f"the host sends more than {MOST_SENT / 1e6:,.0f} MB")
            part.write(chunk)
            held += len(chunk)
            if on_progress is not None:
                on_progress(held, total)  # 0 where the total is unknown
    if held < total:
        raise DownloadError(
            f"the connection broke off after {held / 1e6:,.1f} of {total / 1e6:,.1f} MB, "
            "which are kept"
        )


def _ask(url: str, held: int) -> Any:
    """Return the host's answer, which begins after the bytes that are here if it can."""
    asked = Request(url, headers={"Range": f"bytes={held}-"} if held else {})  # noqa: S310
    try:
        return urlopen(asked, timeout=SILENCE_SECONDS)  # noqa: S310 - the URLs are our own
    except HTTPError as error:
        if held and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return _ask(url, 0)  # what is here is as long as the whole, and not the whole
        raise


def unpack(archive: Path, folder: Path, wanted: Mapping[str, str]) -> None:
    """Unpack known files of a .tar.gz, all or none; everything else in it is left alone.

    Args:
        folder: folder of the unpacked files, which keep their names without folders.
        wanted: MD5 sums of the files by their paths in the archive.

    Raises:
        DownloadError: the archive is damaged, far too large, or lacks one of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder) as temporary:
        unpacked = {Path(temporary, Path(name).name): md5 for name, md5 in wanted.items()}
        try:
            with gzip.open(archive) as raw, tarfile.open(fileobj=_Bounded(raw), mode="r|") as tar:
                for member in tar:
                    if member.name in wanted and (content := tar.extractfile(member)):
                        with content, Path(temporary, Path(member.name).name).open("wb") as file:
                            shutil.copyfileobj(content, file)
        except ARCHIVE_ERRORS as error:
            raise DownloadError(f"{archive} cannot be unpacked: {error}") from error
        for path, md5 in unpacked.items():
            if md5_of(path) != md5:
                raise DownloadError(f"{archive} has no file {path.name} with the MD5 sum {md5}")
        for path in unpacked:
            path.replace(folder / path.name)


class _Bounded(io.RawIOBase):
    """Stream that ends in an error where it would go on without end."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self.stream, self.left = stream, MOST_BYTES

    def read(self, size: int = -1) -> bytes:
        content = self.stream.read(size)
        self.left -= len(content)
        if self.left < 0:
            raise OSError(f"it holds more than {MOST_BYTES / 1e6:,.0f} MB")
        return content
