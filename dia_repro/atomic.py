"""Files that are whole or not there: written under another name, flushed to the disk, renamed."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

PARTIAL = ".partial"  # suffix of a file that is being written


class NoFileError(OSError):
    """The name is that of a folder, a device or a link, not of a file."""


@contextmanager
def replacing(paths: Sequence[Path]) -> Iterator[list[IO[bytes]]]:
    """Open new files that replace old ones at the end: all of them, or none on an error.

    Args:
        paths: in one folder, which is made where there is none. A link is replaced, not followed:
            in a folder that others can write to they may have put it there. See `target_of`.

    Raises:
        NoFileError: one is no file, but a folder, a device or the like.
        OSError: the folder cannot be made or written to, or the disk is full.
    """
    for path in paths:
        _check_kind(path)
    # Names that are never too long where the files' own are not.
    partials = [
        path.with_name(f".{path.name[:50]}.{secrets.token_hex(4)}{PARTIAL}") for path in paths
    ]
    try:
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            files = [stack.enter_context(partial.open("xb")) for partial in partials]
            yield list(files)
            for file in files:
                flush_file(file)
        for partial, path in zip(partials, paths, strict=True):
            publish(partial, path)
    finally:
        for partial in partials:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def write_file(path: Path, content: bytes) -> None:
    """Replace a file in one go as `replacing` does; on an error the old one is untouched."""
    with replacing([path]) as (file,):
        file.write(content)


def open_own(path: Path, mode: str) -> IO[bytes]:
    """Open a file that this program writes for long, under a name where others may put a link.

    Args:
        mode: as in `open`, without "w", which would empty a file before it is checked.

    Raises:
        NoFileError: it is a link, has another name too, or is no file.
        OSError: it cannot be opened.
    """
    file: IO[bytes] = open(path, mode, opener=_open_own)  # noqa: SIM115
    return file


def _open_own(path: str, flags: int) -> int:
    try:  # a pipe is not waited for
        number = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise NoFileError(errno.EEXIST, "it is a link", path) from error
    status = os.fstat(number)
    if stat.S_ISREG(status.st_mode) and status.st_nlink <= 1:
        return number
    os.close(number)
    what = "has another name too" if stat.S_ISREG(status.st_mode) else "is a device or pipe"
    raise NoFileError(errno.EEXIST, f"it {what}", path)


def target_of(path: Path) -> Path:
    """Return the file that a user names, which is another one if the name is a link.

    Raises:
        NoFileError: it is no file.
        OSError: there cannot be such a file, as its name is too long.
    """
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    _check_kind(target)
    return target


def _check_kind(path: Path) -> None:
    with suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            kind = "folder" if stat.S_ISDIR(mode) else "device or pipe"
            raise NoFileError(errno.EEXIST, f"it is a {kind}", str(path))


def publish(partial: Path, path: Path) -> None:
    """Rename a file or folder whose bytes are on the disk, and flush its new name as well.

    Raises:
        NoFileError: `path` is no file, or `partial` is a link.
        OSError: it cannot be renamed.
    """
    if partial.is_symlink():
        raise NoFileError(errno.EEXIST, "it is a link", str(partial))
    _check_kind(path)  # of a device, root would take the place
    partial.replace(path)
    number = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def publish_new(partial: Path, path: Path) -> None:
    """Give a file its name, which no other file has.

    Raises:
        FileExistsError: another file has it.
        OSError: it cannot be renamed.
    """
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        path.touch(exist_ok=False)
        partial.replace(path)


def flush_file(file: IO[bytes]) -> None:
    """Flush a file's bytes to the disk.

    Raises:
        OSError: the disk is full, or broken.
    """
    file.flush()
    os.fsync(file.fileno())
