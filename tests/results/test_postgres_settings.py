"""Settings of a PostgreSQL server, database or user do not change what is read from it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from dia_repro.results.database import open_database
from dia_repro.results.upgrade import back_up
from tests.artifacts.courses import add
from tests.helpers import tiny_spec

THIRDS = [100 / 3, 200 / 3, 37.777777777777779]


def in_server(location: str, statement: str) -> None:
    engine = create_engine(location, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


@pytest.fixture(params=["extra_float_digits = 0", "extra_float_digits = -12"])
def rounding(request: pytest.FixtureRequest, postgres: str) -> Iterator[str]:
    """A database that gives numbers rounded, as those before PostgreSQL 12 do by default."""
    name = make_url(postgres).database
    in_server(postgres, f"alter database {name} set {request.param}")
    yield postgres
    in_server(postgres, f"alter database {name} reset extra_float_digits")


@pytest.mark.postgres
def test_a_backup_has_every_digit(rounding: str, tmp_path: Path) -> None:
    with closing(open_database(rounding, create=True)) as database:
        add(database, tiny_spec(epochs=3), 0, THIRDS)
        back_up(database, tmp_path / "copy.db")
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        found = [row[0] for row in copy.execute("select test_top1 from epochs order by epoch")]
    assert found == THIRDS


@pytest.mark.postgres
def test_a_database_without_an_encoding_can_be_used(postgres: str) -> None:
    name = f"{make_url(postgres).database}_ascii"
    options = "encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C' template template0"
    in_server(postgres, f"create database {name} {options}")
    try:
        location = make_url(postgres).set(database=name).render_as_string(hide_password=False)
        with closing(open_database(location, create=True)) as database:
            number = add(database, tiny_spec(epochs=1), 0, [50.0], reason="é ×")
            with database.reading() as session:
                query = f"select reason from runs where id = {number}"
                assert session.connection().exec_driver_sql(query).scalar() == "é ×"
    finally:
        in_server(postgres, f"drop database {name} with (force)")
