"""Which folder of checkpoints is whose, and what two databases share."""

from __future__ import annotations

from pathlib import Path

import pytest

from dia_repro.execution.planning import checkpoint_store
from dia_repro.execution.roots import default_root
from dia_repro.results.database import open_database

SERVER = "postgresql+psycopg://me:geheim@db.example.org/dia"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGSERVICE", "PGOPTIONS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("location", "root"),
    [
        ("runs.db", "runs-checkpoints"),
        (SERVER, "dia@db.example.org-5432-checkpoints"),
        ("postgresql://you@DB.example.org:5432/dia", "dia@db.example.org-5432-checkpoints"),
        (SERVER.replace(".org", ".org:5433"), "dia@db.example.org-5433-checkpoints"),
        ("postgresql:///dia?host=/run/pg&password=geheim", "dia@%2Frun%2Fpg-5432-checkpoints"),
        ("postgresql:///a%2Fb", "a%2Fb@localhost-5432-checkpoints"),
        (f"{SERVER}?options=-csearch_path%3Dtwo", "dia.two@db.example.org-5432-checkpoints"),
    ],
)
def test_a_database_has_a_root_of_its_own(location: str, root: str) -> None:
    assert str(default_root(location)) == root


def test_what_a_url_leaves_out_is_libpqs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "other.example.org")
    monkeypatch.setenv("PGDATABASE", "mine")
    assert str(default_root("postgresql://")) == "mine@other.example.org-5432-checkpoints"


@pytest.mark.postgres
def test_a_server_and_a_file_share_no_root(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    roots = {
        checkpoint_store(open_database(location, create=True)).absolute()
        for location in (postgres, "runs.db")
    }
    assert len(roots) == 2
