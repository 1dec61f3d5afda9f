"""Versions of the schema: creating the newest, recognising the others.

Each file in `versions` is named by the version that it brings a database to.
"""

from __future__ import annotations

import reprlib
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from dia_repro.results.backends import ForeignDatabaseError, writers_of

VERSIONS = Path(__file__).parent / "versions"
*EARLIER_REVISIONS, REVISION = sorted(path.name[:4] for path in VERSIONS.glob("[0-9]*.py"))
TABLE = "alembic_version"


def check_objects(connection: Connection, name: str) -> None:
    """Raise `ForeignDatabaseError` where reading or writing a SQLite file runs foreign code.

    Such a query may never end. dia-repro makes only tables and indexes. What a PostgreSQL server
    runs is up to its owner.
    """
    if connection.dialect.name != "sqlite":
        return
    # Objects without pages, which are no plain tables; then computed columns.
    objects = "select type, name from sqlite_master where coalesce(rootpage, 0) = 0"
    columns = (
        "select 'generated column', m.name || '.' || x.name from sqlite_master m "
        "join pragma_table_xinfo(m.name) x where m.type = 'table' and x.hidden in (2, 3)"
    )
    for wanted in (objects, columns):
        for kind, found in connection.execute(text(wanted)):
            known = "virtual table" if kind == "table" else kind
            raise ForeignDatabaseError(
                f"{name} is not a dia-repro database: it has a {known}, "
                f"{reprlib.repr(str(found))}; nothing was changed"
            )


def create_if_empty(engine: Engine) -> None:
    """Make the tables unless there are some: another process may have been faster."""
    with writers_of(engine).begin() as connection:
        if not table_names(connection):
            migrate(connection)


def table_names(connection: Connection) -> list[str]:
    """Return the names of all tables."""
    return inspect(connection).get_table_names()


def migrate(connection: Connection, revision: str = "head") -> None:
    """Bring the schema up to a version, by default the newest, in the transaction under way."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "dia_repro.results:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def found(connection: Connection) -> str | None:
    """Return the schema's version, or None where no table says it."""
    if TABLE not in table_names(connection):
        return None
    revision = connection.execute(text("select version_num from alembic_version")).scalar()
    return revision if isinstance(revision, str) else None


def check(connection: Connection, name: str) -> None:
    """Raise `ForeignDatabaseError` unless it is a dia-repro database of this version."""
    names = table_names(connection)
    if not names:
        raise ForeignDatabaseError(f"{name} is empty: there is no database in it yet")
    if not {TABLE, "runs", "specs"} <= set(names):
        raise ForeignDatabaseError(f"{name} is not a dia-repro database: it has other tables")
    revision = found(connection)
    if revision == REVISION:
        return
    if revision in EARLIER_REVISIONS:
        raise ForeignDatabaseError(
            f"{name} has the older schema {revision}: run 'dia-repro db upgrade'"
        )
    raise ForeignDatabaseError(
        f"{name} has schema {revision}, newer than this dia-repro knows "
        f"({REVISION}): update dia-repro; nothing was changed"
    )
