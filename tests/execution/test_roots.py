"""Which folder of checkpoints is whose, and what two databases share."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dia_repro.execution.planning import checkpoint_store
from dia_repro.execution.roots import MARKS, default_root, other_users, register
from dia_repro.execution.upkeep import folder_of, keep_shared, remove_run
from dia_repro.experiments.names import Keep
from dia_repro.results.database import Database, open_database
from dia_repro.results.merge import merge
from dia_repro.results.queries import all_runs
from dia_repro.training.store import Store, store_at
from tests.execution.tiny_runs import make_orders
from tests.helpers import cli, tiny_spec

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


@pytest.fixture
def shared(tmp_path: Path) -> tuple[Database, Database, Store]:
    """A database with two runs, another one that took over the first, and the root of both."""
    store = store_at(str(tmp_path / "weights"))
    ours, _ = make_orders(tmp_path, [tiny_spec(epochs=1)], 1, str(tmp_path / "weights"))
    other = open_database(str(tmp_path / "other.db"), create=True)
    merge(other, [ours], skip_conflicts=False)
    make_orders(tmp_path, [tiny_spec(epochs=1)], 2, str(tmp_path / "weights"))
    for database in (ours, other):
        register(database, store)
    for run in all_runs(ours):
        folder_of(store, run).write(f"epoch-0001-step-00000-{'0' * 32}.pt", b"weights")
    return ours, other, store


def test_weights_that_another_database_knows_stay(
    shared: tuple[Database, Database, Store],
) -> None:
    ours, other, store = shared
    first, second = all_runs(ours)
    assert other_users(ours, store, {first.uid, second.uid}) == {first.uid: [other.location]}
    assert [remove_run(ours, store, run.id, only_checkpoints=False) for run in (first, second)] == [
        0,
        1,
    ]
    assert all_runs(ours) == ()
    (kept,) = all_runs(other)
    assert any(name.endswith(".pt") for name in folder_of(store, kept).names())
    assert remove_run(other, store, kept.id, only_checkpoints=False) == 1  # now nobody else's
    assert store.run_folders() == {}


def test_a_database_that_is_gone_keeps_nothing(shared: tuple[Database, Database, Store]) -> None:
    ours, other, store = shared
    other.close()
    moved = Path(other.location).rename(Path(other.location).with_name("moved.db"))
    run = all_runs(ours)[0]
    assert other_users(ours, store, {run.uid}) == {}
    register(open_database(str(moved), create=False), store)
    assert other_users(ours, store, {run.uid}) == {run.uid: [str(moved)]}


def test_a_link_to_a_database_is_the_same_one(
    shared: tuple[Database, Database, Store], tmp_path: Path
) -> None:
    _, other, store = shared
    link = tmp_path / "link.db"
    link.symlink_to(other.location)
    register(open_database(str(link), create=False), store)
    assert len(store.names(MARKS)) == 2


@pytest.mark.parametrize("mark", [{"host": "elsewhere"}, {"inode": None}])
def test_a_database_that_cannot_be_asked_may_need_all(
    mark: dict[str, object], shared: tuple[Database, Database, Store]
) -> None:
    """As one of another machine, whose path is no file here, or one of a server."""
    ours, _, store = shared
    there = {"database": "/far/runs.db", "host": "elsewhere", "inode": 1, **mark}
    store.write(f"{MARKS}/far.json", json.dumps(there).encode())
    assert len(other_users(ours, store, {"0" * 32})) == 1


def test_a_linked_root_is_shared(tmp_path: Path) -> None:
    """`runs rm` of the command line, which says whose weights stay."""
    database, _ = make_orders(tmp_path, [tiny_spec(epochs=1)], 1)
    (run,) = all_runs(database)
    store = checkpoint_store(database)
    register(database, store)
    folder_of(store, run).write(f"epoch-0001-step-00000-{'0' * 32}.pt", b"weights")
    (tmp_path / "b-checkpoints").symlink_to("runs-checkpoints")
    assert cli("db", "merge", "runs.db", "--db", "b.db", cwd=tmp_path).returncode == 0
    done = cli("runs", "rm", "1", "--yes", cwd=tmp_path)
    assert done.returncode == 0
    assert f"stay in runs-checkpoints: database {tmp_path / 'b.db'} may need them" in done.stderr
    assert len(list((tmp_path / "runs-checkpoints").glob("*/*/*.pt"))) == 1


def test_a_moved_folder_is_not_shared(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    database, _ = make_orders(tmp_path / "one", [tiny_spec(epochs=1)], 1)
    register(database, checkpoint_store(database))
    shutil.move(tmp_path / "one", tmp_path / "two")
    moved = open_database(str(tmp_path / "two" / "runs.db"), create=False)
    (run,) = all_runs(moved)
    assert other_users(moved, checkpoint_store(moved), {run.uid}) == {}


def test_keep_none_keeps_what_another_database_knows(
    shared: tuple[Database, Database, Store], tmp_path: Path
) -> None:
    ours, other, store = shared
    _, orders = make_orders(tmp_path, [tiny_spec(epochs=1)], 2, str(tmp_path / "weights"))
    dropping = [replace(order, keep=Keep.NONE) for order in orders]
    changed, users = keep_shared(ours, store, dropping)
    assert [order.keep for order in changed] == [Keep.LAST, Keep.NONE]
    assert users == {all_runs(other)[0].uid: [other.location]}
