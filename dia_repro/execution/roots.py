"""The folder of a database's checkpoints where no other is named.

Each database has its own: after a merge two of them know runs of the same uid, and what is removed
in one must not be missed in the other.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from sqlalchemy import text

from dia_repro.results.backends import make_engine, sqlite_path
from dia_repro.results.database import Database


def default_root(location: str) -> Path:
    """Return the folder of a database's checkpoints where no other is named.

    It is next to a SQLite file and named after it: runs.db has runs-checkpoints, and a copy
    runs.bak has runs.bak.checkpoints. PostgreSQL's is in the working folder:
    `DATABASE@HOST-PORT-checkpoints`, without user and password.

    Raises:
        DatabaseError: the server cannot be reached.
    """
    path = sqlite_path(location)
    if path is None:
        return Path(f"{_server_database(location)}-checkpoints")
    own = f"{path.stem}-checkpoints" if path.suffix == ".db" else f"{path.name}.checkpoints"
    return path.with_name(own)


def _server_database(location: str) -> str:
    """Return a name of a PostgreSQL database, and of its schema unless that is the usual one.

    The server and the driver are asked: what a URL leaves out is in libpq's variables and files.
    """
    database = Database(make_engine(location, create=False), location)
    asked = text("select current_database(), current_schema()")
    try:
        with database.reading() as session:
            name, schema = session.execute(asked).one()
            info = session.connection().connection.driver_connection.info  # type: ignore[union-attr]
            host, port = info.host.lower(), info.port
    finally:
        database.close()
    named = [name] if schema == "public" else [name, str(schema)]
    return f"{'+'.join(quote(one, safe='') for one in named)}@{quote(host, safe='')}-{port}"
