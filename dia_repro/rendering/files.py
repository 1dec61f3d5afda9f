"""Writing of results: whole, or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from dia_repro.errors import DiaReproError


class OutputError(DiaReproError):
    """A table or figure cannot be written."""


def write_text(path: Path, text: str) -> None:
    """As `write_bytes`, in UTF-8 and with the line ends that the text has."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file in one go; on an error the old one is untouched.

    Raises:
        OutputError: the folder cannot be made or written to, or the disk is full.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
