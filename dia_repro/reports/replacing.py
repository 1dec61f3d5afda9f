"""Names of a report's files, and what must not be replaced by them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from dia_repro.artifacts import ARTIFACTS, Drawing, TableArtifact
from dia_repro.artifacts.controls import NORM
from dia_repro.artifacts.learning import Measure
from dia_repro.artifacts.selection import best_covered
from dia_repro.artifacts.sizes import ALL_NETWORKS, TABLES
from dia_repro.errors import UsageError
from dia_repro.experiments.spec import Spec
from dia_repro.rendering.cells import ReplacedError, is_another
from dia_repro.rendering.marks import (
    OF_ANOTHER,
    mark_of,
    picture_shows_another,
    shows_another,
)
from dia_repro.reports.chosen import Chosen
from dia_repro.reports.options import Folders
from dia_repro.results.queries import runs_of

SIZES, SCALE = "accuracy-parameters", "initial-scale"
# Kinds of a table's files, of those of the paper's figures, and of other pictures.
TABLE_KINDS = ("csv", "md", "tex")
PICTURE_KINDS = ("pdf", "png", "svg")
FIGURE_KINDS = (*PICTURE_KINDS, "csv")
# Learning curves by the way an artifact asks for them: the picture's name, and what it shows.
CURVES: dict[Drawing, tuple[str, Measure]] = {
    Drawing.ACCURACY: ("curves", "test_top1"),
    Drawing.LOSS: ("loss", "train_loss"),
}


class BusyFolderError(UsageError):
    """Another report is being written to the same folder."""


def svg_of(picture: Path) -> Path:
    """Return the file of a picture that has its mark."""
    return picture.with_name(f"{picture.name}.svg")


@contextmanager
def alone_in(folders: Iterable[Path], page: Path | None = None) -> Iterator[None]:
    """Keep other reports from writing into folders, or a page, for the time of the block.

    A page's own folder is not locked: it often is the working folder, where other programs and
    reports with other pages go on. A hidden file next to the page is, and is removed at the end.

    Raises:
        BusyFolderError: another one does.
    """
    with ExitStack() as held:
        # A folder by two names would be locked against itself.
        for folder in {folder.resolve(): folder for folder in folders}.values():
            with suppress(OSError):  # no folder, which is said when a file is written
                made = [path for path in (folder, *folder.parents) if not path.exists()]
                held.callback(_remove_empty, made)
                folder.mkdir(parents=True, exist_ok=True)
                _lock(os.open(folder, os.O_RDONLY), folder, held)
        if page is not None:
            with suppress(OSError):
                _lock_page(page, held)
        yield


def _remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders, inner ones first, in which nothing was written after all."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _lock_page(page: Path, held: ExitStack) -> None:
    file = page.resolve().with_name(f".{page.name}.lock")
    if file.is_symlink() or (file.exists() and (not file.is_file() or file.stat().st_size)):
        raise BusyFolderError(f"{file} is a file of yours, whose name a report needs: move it away")
    while True:
        number = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        _lock(number, page, held)
        # Who held it before may have removed it since it was opened: then it locks nothing.
        if file.exists() and os.path.samestat(file.stat(), os.fstat(number)):
            held.callback(file.unlink, missing_ok=True)
            return


def _lock(number: int, what: Path, held: ExitStack) -> None:
    """Lock an open file or folder until the stack ends; a file system may know no locks."""
    held.callback(os.close, number)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BusyFolderError(f"another report is being written to {what}") from error


def check_replaced(
    chosen: Chosen,
    folders: Folders,
    html: Path | None,
    *,
    replace_others: bool,
    said: bool = False,
) -> list[Path]:
    """Refuse to write over results of other experiments, or say that they are replaced.

    Args:
        html: the page, if one is written.
        said: whether it was said before what is replaced.

    Returns:
        The pictures of other experiments, without suffixes.

    Raises:
        ReplacedError: there are some, and they must not be replaced.
        ForeignFileError: a file that dia-repro has not written is in the place of one.
    """
    found: list[Path] = []
    origin = chosen.database.origin
    pictures: dict[Path, str] = {}  # their marks
    tables = [folders.table_of(artifact) for artifact in chosen.artifacts]
    for artifact, table in zip(chosen.artifacts, tables, strict=True):
        specs = artifact.specs(artifact.as_usual(chosen.request(artifact)))
        found += [table.with_suffix(".csv")] if is_another(table, specs, origin) else []
        mark = mark_of(specs.values(), origin)
        pictures |= dict.fromkeys(_pictures(artifact, folders.figures), mark)
    if any(table.name in {artifact.name for artifact in chosen.artifacts} for table in TABLES):
        request = best_covered(ALL_NETWORKS, chosen.database, chosen.wanted)
        shown = (spec for table in TABLES for spec in table.specs(request).values())
        pictures[folders.figures / SIZES] = mark_of(shown, origin)
    others = [at for at, mark in pictures.items() if picture_shows_another(at, mark)]
    found += [svg_of(picture) for picture in others]
    if html:
        _check_apart(html, tables, pictures)
        papers = [artifact for artifact in ARTIFACTS.values() if artifact.in_paper]
        own = [artifact for artifact in chosen.artifacts if not artifact.in_paper]
        page = mark_of(_with_runs(chosen, papers) or _with_runs(chosen, own), origin)
        found += [html] if shows_another(html, page) else []
    names = ", ".join(map(str, found))
    if found and not replace_others:
        raise ReplacedError(
            f"{names}: results {OF_ANOTHER} are there. Name other folders with --tables and "
            "--figures, and another page with --html, or add --replace"
        )
    if found and not said:
        chosen.dialogue.notice(f"To be replaced, {OF_ANOTHER}: {names}")
    return others


def _with_runs(chosen: Chosen, artifacts: Iterable[TableArtifact]) -> list[Spec]:
    """Return the experiments of artifacts that have runs."""
    specs = [s for a in artifacts for s in a.specs(a.as_usual(chosen.request(a))).values()]
    known = runs_of(chosen.database, (spec.spec_id for spec in specs))
    return [spec for spec in specs if known[spec.spec_id]]


def _pictures(artifact: TableArtifact, figures: Path) -> list[Path]:
    """Return the pictures that an artifact may have, without suffixes."""
    curves = (CURVES[drawing][0] for drawing in artifact.drawings if drawing in CURVES)
    pictures = [figures / f"{artifact.name}-{name}" for name in curves]
    pictures += [figures / artifact.name] if {*artifact.drawings} - CURVES.keys() else []
    return [*pictures, *([figures / SCALE] if artifact.name == NORM.name else [])]


def _check_apart(page: Path, tables: Iterable[Path], pictures: Iterable[Path]) -> None:
    """Refuse a page of the name of another of the report's files."""
    named = [table.with_suffix(f".{kind}") for table in tables for kind in TABLE_KINDS]
    named += [
        picture.with_name(f"{picture.name}.{k}") for picture in pictures for k in FIGURE_KINDS
    ]
    if page.resolve() in {file.resolve() for file in named}:
        raise UsageError(f"{page} is a file of this report's tables or figures: name another page")
