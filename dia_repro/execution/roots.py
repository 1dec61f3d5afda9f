"""The folder of a database's checkpoints where no other is named.

Each database has its own: after a merge two of them know runs of the same uid, and what is removed
in one must not be missed in the other.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

from dia_repro.results.backends import make_engine, sqlite_path

SCHEMA = re.compile(r"search_path\s*=\s*([^\s,]+)")


def default_root(location: str) -> Path:
    """Return the folder of a database's checkpoints where no other is named.

    It is next to a SQLite file and named after it (runs.db has runs-checkpoints; copies runs.bak
    and runs share nothing with it). PostgreSQL's is in the working folder:
    `DATABASE@HOST-PORT-checkpoints`.
    """
    path = sqlite_path(location)
    if path is None:
        return Path(f"{_server_database(location)}-checkpoints")
    name = path.stem if path.suffix == ".db" else f"{path.name}-file"
    return path.with_name(f"{name}-checkpoints")


def _server_database(location: str) -> str:
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
