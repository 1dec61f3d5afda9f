"""A database as a folder of files: three tables and what their columns mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dia_repro.errors import UsageError
from dia_repro.export.columns import TABLES
from dia_repro.export.formats import Format, check_available, schema_text, write_table
from dia_repro.export.rows import batches, count_rows
from dia_repro.rendering.files import OutputError, replacing
from dia_repro.results.database import Database

SCHEMA = "schema.json"


class FilesThereError(UsageError):
    """There are such files already, and nobody said to overwrite them."""


def export_database(
    database: Database,
    folder: Path,
    format_: Format,
    *,
    overwrite: bool,
    on_progress: Callable[[int, int], None],
) -> dict[str, int]:
    """Write all runs, epochs and attempts as they are at one moment, with `schema.json`.

    Runs under way go on; on SQLite they wait with what they want to record until it is done.

    Args:
        folder: made where there is none; other files in it stay.
        overwrite: whether earlier files of these names may be replaced.
        on_progress: told how many of how many records are written.

    Returns:
        Records by table.

    Raises:
        FilesThereError: files are there already; nothing was touched.
        AbsentError: a package that the format needs is not installed; nothing was touched.
        OutputError: the folder cannot be written to; earlier files are as they were.
    """
    check_available(format_)
    paths = [folder / f"{table.name}.{format_}" for table in TABLES]
    schema = schema_text(TABLES)
    _check_place(folder, paths, schema, overwrite)
    with replacing([*paths, folder / SCHEMA]) as files, database.reading() as session:
        counts = {table.name: count_rows(session, table) for table in TABLES}
        progress = _Progress(on_progress, sum(counts.values()))
        for file, table in zip(files, TABLES, strict=False):
            write_table(format_, file, table, progress.watch(batches(session, table)))
        files[-1].write(schema.encode())
    return counts


def _check_place(folder: Path, paths: Sequence[Path], schema: str, overwrite: bool) -> None:
    try:
        if folder.exists() and not folder.is_dir():
            raise FilesThereError(f"{folder} is not a folder")
        there = [path for path in paths if path.exists()]
        described = folder / SCHEMA
        # The same description, of an export in another format, is no loss.
        if described.exists() and (described.is_dir() or described.read_bytes() != schema.encode()):
            there.append(described)
        folders = [path for path in there if path.is_dir()]
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}") from error
    if folders:
        raise FilesThereError(f"{folders[0]} is a folder")
    if there and not overwrite:
        names = ", ".join(path.name for path in there)
        raise FilesThereError(f"{folder} has {names} already: add --overwrite to replace them")


class _Progress:
    """Counts rows over several tables."""

    def __init__(self, on_progress: Callable[[int, int], None], total: int) -> None:
        self.on_progress, self.total, self.done = on_progress, total, 0

    def watch(self, found: Iterator[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        """The same batches."""
        for batch in found:
            yield batch
            self.done += len(batch)
            self.on_progress(self.done, self.total)
