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

PARTIAL = ".partial"  # how the name of a file ends that is being written


class NoFileError(OSError):
    """Something else than a file has the name, such as a folder or a device."""


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
    partials = [_partial(path) for path in paths]
    try:
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            files: list[IO[bytes]] = [
                stack.enter_context(partial.open("xb")) for partial in partials
            ]
            yield files
            for file in files:
                flush_file(file)
        for partial, path in zip(partials, paths, strict=True):
            publish(partial, path)
    finally:
        for partial in partials:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def write_file(path: Path, content: bytes) -> None:
    """Replace a file in one go; on an error the old one is untouched.

    Raises:
        OSError: as `replacing`.
    """
    with replacing([path]) as (file,):
        file.write(content)


def target_of(path: Path) -> Path:
    """Return the file that a user names, which is another one if the name is a link.

    Raises:
        NoFileError: something else than a file is there.
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


def _partial(path: Path) -> Path:
    """Return a name for a file while it is written; never too long where its own is not."""
    return path.with_name(f".{path.name[:50]}.{secrets.token_hex(4)}{PARTIAL}")


def publish(partial: Path, path: Path) -> None:
    """Give a file or folder whose bytes are on the disk its name, which then is there as well.

    Raises:
        NoFileError: something has that name that is no file.
        OSError: it cannot be renamed.
    """
    _check_kind(path)  # of a device, root would take the place
    partial.replace(path)
    number = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def flush_file(file: IO[bytes]) -> None:
    """Have a file's bytes on the disk.

    Raises:
        OSError: the disk is full, or broken.
    """
    file.flush()
    os.fsync(file.fileno())
