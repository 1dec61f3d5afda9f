"""Files that are whole or not there: written under another name, flushed to the disk, renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

PARTIAL = ".partial"  # how the name of a file ends that is being written


@contextmanager
def replacing(paths: Sequence[Path]) -> Iterator[list[IO[bytes]]]:
    """Open new files that replace old ones at the end: all of them, or none on an error.

    Args:
        paths: in one folder, which is made where there is none.

    Raises:
        OSError: the folder cannot be made or written to, or the disk is full.
    """
    partials = [path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}") for path in paths]
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


def publish(partial: Path, path: Path) -> None:
    """Give a file or folder whose bytes are on the disk its name, which then is there as well.

    Raises:
        OSError: it cannot be renamed.
    """
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
