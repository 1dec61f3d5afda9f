"""Settings of a PostgreSQL server, database or user do not change what is read from it."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from dia_repro.results import backends
from dia_repro.results.database import open_database
from dia_repro.results.leases import OtherDataError, take
from dia_repro.results.upgrade import back_up
from dia_repro.results.writer import ensure_runs
from tests.artifacts.courses import add
from tests.helpers import tiny_spec
from tests.results.rows import PROVENANCE

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


@pytest.mark.postgres
@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_who_waited_for_the_write_lock_sees_what_was_written_meanwhile(
    level: str, postgres: str
) -> None:
    """Seeds of one experiment on two data sets: the second one is refused."""
    name = make_url(postgres).database
    in_server(postgres, f"alter database {name} set default_transaction_isolation = '{level}'")
    outcomes: list[str] = []
    try:
        with closing(open_database(postgres, create=True)) as database:
            spec = tiny_spec()
            runs = ensure_runs(database, {spec.spec_id: spec.canonical_json()}, [0, 1])

            def train(seed: int) -> None:
                data = {**PROVENANCE, "data_sha256": str(seed) * 64}
                try:
                    take(database, runs[spec.spec_id, seed], f"process {seed}", f"{seed}", data)
                    outcomes.append("taken")
                except OtherDataError:
                    outcomes.append("refused")

            threads = [threading.Thread(target=train, args=(seed,)) for seed in (0, 1)]
            with database.writing() as session:
                session.execute(text("select 1"))
                for thread in threads:
                    thread.start()
                time.sleep(0.5)  # both wait for the lock
            for thread in threads:
                thread.join()
    finally:
        in_server(postgres, f"alter database {name} reset default_transaction_isolation")
    assert sorted(outcomes) == ["refused", "taken"]


@pytest.mark.postgres
def test_a_limit_on_statements_does_not_end_the_wait_for_the_write_lock(postgres: str) -> None:
    name = make_url(postgres).database
    in_server(postgres, f"alter database {name} set statement_timeout = '200ms'")
    try:
        with closing(open_database(postgres, create=True)) as database:
            begun = threading.Event()

            def hold() -> None:
                with database.writing() as session:
                    session.execute(text("select 1"))  # a transaction begins with its first one
                    begun.set()
                    time.sleep(0.8)

            other = threading.Thread(target=hold)
            other.start()
            begun.wait()
            with database.writing() as session:
                limit = session.execute(text("show statement_timeout")).scalar()
            other.join()
    finally:
        in_server(postgres, f"alter database {name} reset statement_timeout")
    assert limit == "200ms", "the database's own limit holds for what is written"


@pytest.mark.postgres
def test_a_lock_is_known_by_its_code_in_any_language(postgres: str) -> None:
    engine = create_engine(postgres)
    lock = text(f"select pg_advisory_xact_lock({backends.WRITE_LOCK})")
    with (
        closing(open_database(postgres, create=True)) as database,
        database.writing() as session,
        engine.connect() as connection,
    ):
        session.execute(text("select 1"))
        connection.execute(text("set lock_timeout = 50"))
        with pytest.raises(DBAPIError) as refused:
            connection.execute(lock)
    engine.dispose()
    original = refused.value.orig
    assert original is not None
    assert backends.is_locked(refused.value)
    in_german = type(original)("storniere Anfrage wegen Zeitüberschreitung einer Sperre")
    assert backends.is_locked(DBAPIError("select", {}, in_german))
