"""Checkpoints in folders, on this machine's disk or one that machines share.

A file is whole or not there: it is written under another name, flushed to the disk and renamed.
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dia_repro.flushing import flush_file, flush_names
from dia_repro.training.store import CheckpointError, Store


@dataclass(frozen=True)
class Disk(Store):
    """Folders below one folder."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's path."""
        return str(self.folder)

    @property
    def root(self) -> Path:
        """The folder."""
        return self.folder

    def names(self, folder: str) -> list[str]:
        """Of the files right in a folder; none where there is no such folder."""
        place = self.folder / folder
        try:
            return [path.name for path in place.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise CheckpointError(f"cannot read {place}: {error.strerror or error}") from error

    def read(self, path: str) -> bytes:
        """A file's bytes."""
        place = self.folder / path
        try:
            return place.read_bytes()
        except OSError as error:
            raise CheckpointError(f"cannot read {place}: {error.strerror or error}") from error

    def write(self, path: str, content: bytes) -> None:
        """Whole, and on the disk, before it has its name."""
        place = self.folder / path
        partial = place.with_suffix(".partial")
        with _writing(place.parent):
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                partial.unlink(missing_ok=True)  # of a write that was killed, or a link
                with open(partial, "xb") as file:  # noqa: PTH123 - never through a link
                    file.write(content)
                    flush_file(file)
                partial.replace(place)
                flush_names(place.parent)
            except OSError:
                with suppress(OSError):
                    partial.unlink(missing_ok=True)
                raise

    def remove(self, path: str) -> None:
        """Remove a file, which need not be there, or a folder, as some storage makes everywhere."""
        place = self._inside(path)
        with _writing(place.parent):
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)

    def remove_folder(self, folder: str) -> None:
        """Remove what is left of a folder whose files are gone."""
        shutil.rmtree(self._inside(folder), ignore_errors=True)

    def _inside(self, path: str) -> Path:
        """Return the path of what is to be removed.

        Raises:
            CheckpointError: it leads out of the store's folder, as by a symbolic link.
        """
        whole = self.folder / path
        inside = whole.parent.resolve().is_relative_to(self.folder.resolve())
        if not inside or ".." in Path(path).parts:
            raise CheckpointError(f"{whole} leads out of {self.folder}: nothing was removed")
        return whole

    def run_folders(self) -> dict[str, int]:
        """The folders of runs, `spec/run`, with their bytes."""
        try:
            return {
                folder.relative_to(self.folder).as_posix(): sum(map(_size, folder.rglob("*")))
                for folder in sorted(self.folder.glob("*/seed-*"))
            }
        except OSError as error:
            raise CheckpointError(
                f"cannot read {self.folder}: {error.strerror or error}"
            ) from error

    def absolute(self) -> Disk:
        """The same place for a process with another working folder."""
        return Disk(self.folder.absolute())


def _size(path: Path) -> int:
    """Return a file's bytes; a folder, and a file that is removed meanwhile, have none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"cannot write a checkpoint to {folder}: {reason}") from error
