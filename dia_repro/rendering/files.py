"""Writing of results: whole, or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

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
    with replacing([path]) as (file,):
        file.write(content)


@contextmanager
def replacing(paths: Sequence[Path]) -> Iterator[list[IO[bytes]]]:
    """New files that take the place of old ones at the end, all of them, or none on an error.

    Args:
        paths: in one folder, which is made where there is none.

    Raises:
        OutputError: the folder cannot be made or written to, or the disk is full.
    """
    partials = [path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial") for path in paths]
    try:
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            yield [stack.enter_context(partial.open("wb")) for partial in partials]
        for partial, path in zip(partials, paths, strict=True):
            partial.replace(path)
    except OSError as error:
        where = paths[0] if len(paths) == 1 else f"to {paths[0].parent}"
        raise OutputError(f"cannot write {where}: {error.strerror or error}") from error
    finally:
        for partial in partials:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
