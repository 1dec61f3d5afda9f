"""What has been written is on the disk: it survives the loss of power."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO


def flush_file(file: IO[bytes]) -> None:
    """Have a file's bytes on the disk.

    Raises:
        OSError: the disk is full, or broken.
    """
    file.flush()
    os.fsync(file.fileno())


def flush_names(folder: Path) -> None:
    """Have the names in a folder on the disk.

    Raises:
        OSError: as `flush_file`, or the folder is not there.
    """
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
