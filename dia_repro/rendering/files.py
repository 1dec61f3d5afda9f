"""Writing of results: whole, or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO

from dia_repro import atomic
from dia_repro.errors import AbsentError, UsageError

_RECORD: ContextVar[dict[Path, str] | None] = ContextVar("record", default=None)


class OutputError(AbsentError):
    """A table or figure cannot be written."""


class TargetError(UsageError):
    """There cannot be a file of that name."""


def check_target(path: Path) -> None:
    """Refuse a name that a file cannot have, before anything is computed.

    Raises:
        TargetError: it is too long, or that of a folder, a device or the like.
    """
    try:
        atomic.target_of(path)
    except OSError as error:
        raise TargetError(f"cannot write {path}: {error.strerror or error}") from error


def write_text(path: Path, text: str) -> None:
    """Replace a file as `write_bytes` does, in UTF-8 and with the line ends that the text has."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file as `write_all` does."""
    write_all({path: content})


def write_all(contents: Mapping[Path, bytes]) -> None:
    """Replace files in one go, in their order; on an error the old ones are untouched.

    Raises:
        OutputError: the folder cannot be made or written to, or the disk is full.
    """
    with replacing([*contents]) as files:
        for file, content in zip(files, contents.values(), strict=True):
            file.write(content)
    if (record := _RECORD.get()) is not None:
        record |= {path: hashlib.sha256(content).hexdigest() for path, content in contents.items()}


@contextmanager
def recording() -> Iterator[dict[Path, str]]:
    """Note the SHA-256 of each file that is written in the block."""
    record: dict[Path, str] = {}
    token = _RECORD.set(record)
    try:
        yield record
    finally:
        _RECORD.reset(token)


@contextmanager
def replacing(paths: Sequence[Path]) -> Iterator[list[IO[bytes]]]:
    """Replace files as `atomic.replacing` does, through links, with an error for people.

    Raises:
        TargetError: one is no file, but a folder, a device or the like.
        OutputError: the folder cannot be made or written to, or the disk is full.
    """
    try:
        targets = [atomic.target_of(path) for path in paths]
        with atomic.replacing(targets) as files:
            yield files
    except atomic.NoFileError as error:
        raise TargetError(f"cannot write {error.filename}: {error.strerror}") from error
    except OSError as error:
        where = paths[0] if len(paths) == 1 else f"to {paths[0].parent}"
        raise OutputError(f"cannot write {where}: {error.strerror or error}") from error
