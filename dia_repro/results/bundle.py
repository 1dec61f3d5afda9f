"""Bundle of results for a paper's supplement: a ZIP file that describes itself as an RO-Crate.

It has a copy of the database, which `db merge` reads, and the files of a report. See
https://w3id.org/ro/crate/1.1 for its description, `ro-crate-metadata.json`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import dia_repro
from dia_repro.atomic import flush_file, publish_new
from dia_repro.errors import UsageError
from dia_repro.results.database import Database, open_existing
from dia_repro.results.frames import ATTEMPTS, RUNS, records_of
from dia_repro.results.upgrade import back_up

DATABASE, METADATA, ABOUT = "runs.db", "ro-crate-metadata.json", "README.txt"
RESERVED = {DATABASE, METADATA, ABOUT}
MOST_BYTES = 1 << 34  # that a database may unpack to
VERSIONS = ("package", "git_commit", "python", "torch", "cuda", "device", "packages")
TYPES = {
    ".csv": "text/csv",
    ".db": "application/vnd.sqlite3",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".tex": "application/x-tex",
    ".txt": "text/plain",
}


class BundleError(UsageError):
    """A bundle cannot be made, or is none."""


def write_bundle(database: Database, target: Path, files: Mapping[str, Path]) -> int:
    """Write a bundle, and return the number of its files.

    The same database and files give the same description, and the same names in the same order.

    Args:
        target: the ZIP file; must not exist.
        files: further files by their names in the bundle.

    Raises:
        BundleError: the file exists, or cannot be written.
        BackupError, DatabaseError: the database cannot be copied.
    """
    if target.exists() or target.is_symlink():
        raise _exists(target)
    try:
        with tempfile.TemporaryDirectory(prefix=".bundle-", dir=target.absolute().parent) as folder:
            copy, about = Path(folder, DATABASE), Path(folder, ABOUT)
            back_up(database, copy)
            with database.reading() as session:
                runs, attempts = (records_of(session, table) for table in (RUNS, ATTEMPTS))
            about.write_text(_about(len(runs), attempts), "utf-8")
            more = {name: files[name] for name in sorted(files.keys() - RESERVED)}
            known = {DATABASE: copy, ABOUT: about, **more}
            newest = max((run["changed_at"] for run in runs), default=datetime(1980, 1, 1))
            described = _described(known, newest, len(runs))
            whole = Path(folder, "whole.zip")
            # A file of before 1980, as on a machine without a clock, gets the first date of a ZIP.
            with zipfile.ZipFile(
                whole, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False
            ) as bundle:
                for name, path in known.items():
                    bundle.write(path, name)
                bundle.writestr(METADATA, described)
            with whole.open("rb+") as file:
                flush_file(file)
            publish_new(whole, target)
    except FileExistsError:
        raise _exists(target) from None
    except OSError as error:
        raise BundleError(f"cannot write {target}: {error.strerror or error}") from error
    return len(known) + 1


def _exists(target: Path) -> BundleError:
    return BundleError(f"{target} exists: a bundle overwrites nothing")


@contextmanager
def opened(locations: Iterable[str]) -> Iterator[list[Database]]:
    """Open databases, and those of bundles, for the time of the block.

    Raises:
        NoDatabaseError, ForeignDatabaseError, DatabaseError: there is none, or it cannot be read.
        BundleError: a ZIP file is no bundle, or its database is far too large.
    """
    with ExitStack() as unpacked:
        yield [
            open_existing(
                str(unpacked.enter_context(database_in(Path(location))))
                if location.lower().endswith(".zip")
                else location
            )
            for location in locations
        ]


@contextmanager
def database_in(bundle: Path) -> Iterator[Path]:
    """Unpack the database of a bundle for the time of the block.

    Raises:
        BundleError: it is no bundle, or its database is far too large.
    """
    try:
        with (
            tempfile.TemporaryDirectory(prefix="dia-repro-") as folder,
            zipfile.ZipFile(bundle) as opened,
        ):
            if opened.getinfo(DATABASE).file_size > MOST_BYTES:
                raise BundleError(
                    f"{bundle}: its database is larger than {MOST_BYTES / 1e9:.0f} GB"
                )
            copy = Path(folder, DATABASE)
            with opened.open(DATABASE) as packed, copy.open("wb") as file:
                shutil.copyfileobj(packed, file)  # which ends at the size that was checked
            yield copy
    except KeyError as error:
        raise BundleError(f"{bundle} has no {DATABASE}") from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise BundleError(f"{bundle} is no bundle of results: {error}") from error
    except OSError as error:
        raise BundleError(f"cannot read {bundle}: {error.strerror or error}") from error


def _about(runs: int, attempts: list[dict[str, Any]]) -> str:
    """Return the text for people: what is there, and what it was made with."""
    lines = [
        "Results of dia-repro, a reproduction suite for DIANet: Dense-and-Implicit Attention",
        "Network (AAAI 2020).",
        "",
        f"{DATABASE}: {runs} runs with every epoch and their provenance. To add them to results",
        "of your own: dia-repro db merge THIS_FILE.zip",
        "",
        "Made with:",
    ]
    for name in VERSIONS:
        values = sorted({str(attempt[name]) for attempt in attempts if attempt[name] is not None})
        lines += [f"  {name}: {value}" for value in values]
    return "\n".join(lines) + "\n"


def _described(files: Mapping[str, Path], newest: datetime, runs: int) -> str:
    """Return an RO-Crate's description of the files, as JSON."""
    entities = [
        {
            "@id": name,
            "@type": "File",
            "contentSize": str(path.stat().st_size),
            "encodingFormat": TYPES.get(path.suffix, "application/octet-stream"),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for name, path in files.items()
    ]
    software = f"#dia-repro-{dia_repro.__version__}"
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": "Results of a reproduction of DIANet",
        "description": f"{runs} training runs, tables and figures with the paper's values.",
        "datePublished": newest.date().isoformat(),
        "hasPart": [{"@id": name} for name in files],
        "mentions": {"@id": software},
    }
    program = {
        "@id": software,
        "@type": "SoftwareApplication",
        "name": "dia-repro",
        "softwareVersion": dia_repro.__version__,
    }
    descriptor = {
        "@id": METADATA,
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
    }
    graph = [descriptor, root, program, *entities]
    crate = {"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": graph}
    return json.dumps(crate, indent=1, ensure_ascii=False) + "\n"
