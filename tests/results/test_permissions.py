"""Files of a database and of checkpoints: the umask alone decides who may write them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from dia_repro.execution.leasing import acquire_lock
from dia_repro.results.database import open_database
from dia_repro.results.upgrade import back_up
from dia_repro.training.store import Store

UMASKS = [0o002, 0o022, 0o077]


@pytest.fixture(params=UMASKS, ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mode & 0o777
        for path in folder.rglob("*")
    }


def test_databases_and_journals_are_as_the_umask_allows(umask: int, tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "runs.db"), create=True)
    with database.writing() as session:
        session.execute(text("update alembic_version set version_num = version_num"))
        assert "runs.db-journal" in modes(tmp_path)
        assert set(modes(tmp_path).values()) == {0o666 & ~umask}
    back_up(database, tmp_path / "copy.db")
    assert modes(tmp_path) == dict.fromkeys(("runs.db", "copy.db"), 0o666 & ~umask)


def test_a_database_that_is_there_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    open_database(str(path), create=True).close()
    path.chmod(0o640)
    open_database(str(path), create=True).close()
    assert modes(tmp_path) == {"runs.db": 0o640}


def test_checkpoints_and_their_folders_are_as_the_umask_allows(umask: int, tmp_path: Path) -> None:
    Store(tmp_path).write("spec/seed-0/epoch-1.pt", b"weights")
    lock = acquire_lock(tmp_path / "spec" / "seed-0")
    assert lock is not None
    lock.release()
    folders = {name: mode for name, mode in modes(tmp_path).items() if (tmp_path / name).is_dir()}
    assert set(folders.values()) == {0o777 & ~umask}
    files = {name: mode for name, mode in modes(tmp_path).items() if name not in folders}
    assert files
    assert set(files.values()) == {0o666 & ~umask}
