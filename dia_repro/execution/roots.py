"""Roots of checkpoints: a database's default one, and which databases use one.

Databases can share a root: by the same `--checkpoints`, or by a link. After a merge they know runs
of the same uid, whose checkpoints are one folder. Each database that uses a root leaves a mark in
it, so that the weights that another one may need are not removed.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from dia_repro.errors import DiaReproError
from dia_repro.results.backends import make_engine, sqlite_path
from dia_repro.results.database import Database, open_database
from dia_repro.results.queries import all_runs
from dia_repro.training.store import Store

MARKS = "databases"  # the folder of the marks in a root
SCHEMA = re.compile(r"search_path\s*=\s*([^\s,]+)")


@dataclass(frozen=True)
class Mark:
    """A database that uses a root, as a JSON file in the root.

    Attributes:
        database: path of a SQLite file without links, or PostgreSQL's `DATABASE@HOST-PORT`.
        host: the machine that left the mark.
        inode: of the SQLite file, which a container or another host sees too; None for PostgreSQL.
    """

    database: str
    host: str
    inode: int | None

    @property
    def file(self) -> str:
        """The mark's path in a root; the same from each host."""
        key = json.dumps([self.database, self.inode])
        return f"{MARKS}/{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


_MARK = TypeAdapter(Mark)


def default_root(location: str) -> Path:
    """Return the folder of a database's checkpoints where no other is named.

    It is next to a SQLite file and named after it (runs.db has runs-checkpoints; copies runs.bak
    and runs share nothing with it). PostgreSQL's is in the working folder:
    `DATABASE@HOST-PORT-checkpoints`.
    """
    path = sqlite_path(location)
    if path is None:
        return Path(f"{server_database(location)}-checkpoints")
    name = path.stem if path.suffix == ".db" else f"{path.name}-file"
    return path.with_name(f"{name}-checkpoints")


def server_database(location: str) -> str:
    """Return `DATABASE@HOST-PORT` of a PostgreSQL URL: no user and no password.

    What the URL leaves out is taken from libpq's defaults (PGHOST, PGDATABASE, …). A schema in
    `search_path` follows the database after a dot.
    """
    engine = make_engine(location, create=False)
    _, given = engine.dialect.create_connect_args(engine.url)
    known = _libpq_defaults() if engine.driver == "psycopg" else {}
    known |= {name: str(value) for name, value in given.items()}
    host = known.get("host") or known.get("hostaddr") or known.get("service") or "localhost"
    schema = SCHEMA.search(known.get("options", ""))
    database = known.get("dbname") or known.get("user", "")
    named = [database, schema[1]] if schema else [database]
    parts = [quote(".".join(named), safe=""), quote(host.lower(), safe="")]
    return f"{'@'.join(parts)}-{quote(known.get('port', '5432'), safe='')}"


def _libpq_defaults() -> dict[str, str]:
    from psycopg.pq import Conninfo

    options = Conninfo.get_defaults()
    return {option.keyword.decode(): option.val.decode() for option in options if option.val}


def register(database: Database, store: Store) -> None:
    """Leave a database's mark in a root that it uses.

    Raises:
        CheckpointError: the root cannot be written to.
    """
    mark = _mark(database)
    if Path(mark.file).name not in store.names(MARKS):
        store.write(mark.file, json.dumps(asdict(mark)).encode())


def other_users(database: Database, store: Store, uids: Collection[str]) -> dict[str, list[str]]:
    """Return the other databases that may need the checkpoints of runs.

    Those are databases with a mark in the root that know the run. Of PostgreSQL, another machine
    and what cannot be read, it cannot be told: they count.

    Returns:
        Names of databases by uid, for the runs that have any.
    """
    found: dict[str, list[str]] = {}
    own = _mark(database)
    for mark in _marks(store):
        if mark.file != own.file:
            known = _known_runs(mark)
            for uid in uids if known is None else known.intersection(uids):
                found.setdefault(uid, []).append(_name(mark))
    return found


def _mark(database: Database) -> Mark:
    host, path = socket.gethostname(), sqlite_path(database.location)
    if path is None:
        return Mark(server_database(database.location), host, None)
    whole = path.resolve()
    return Mark(str(whole), host, whole.stat().st_ino if whole.exists() else 0)


def _marks(store: Store) -> Iterator[Mark]:
    for name in sorted(store.names(MARKS)):
        try:
            yield _MARK.validate_json(store.read(f"{MARKS}/{name}"))
        except ValidationError:  # damaged, or not ours: it may stand for any database
            yield Mark(f"the one of {store.name}/{MARKS}/{name}", "", None)


def _known_runs(mark: Mark) -> set[str] | None:
    """Return the uids of a database's runs; None where it cannot be asked."""
    if mark.inode is None:
        return None
    path = Path(mark.database)
    if not path.is_file() or path.stat().st_ino != mark.inode:
        return set() if mark.host == socket.gethostname() else None  # moved, replaced or removed
    try:
        database = open_database(str(path), create=False)
    except DiaReproError:
        return None
    try:
        return {run.uid for run in all_runs(database)}
    except DiaReproError:
        return None
    finally:
        database.close()


def _name(mark: Mark) -> str:
    here = mark.inode is None or mark.host == socket.gethostname()
    return mark.database if here else f"{mark.database} on {mark.host}"
