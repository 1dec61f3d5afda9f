"""Identity of locks and folders: not by names that others can have, too."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import dia_repro
from dia_repro.execution.leasing import acquire_lock, lock_id, lock_location
from dia_repro.execution.maintenance import checkpoint_store, dead_runs, folder_of
from dia_repro.results.database import open_database
from dia_repro.results.queries import run_detail
from dia_repro.results.schema import State
from dia_repro.results.writer import free
from dia_repro.training.checkpoint import run_folder
from dia_repro.training.store import CheckpointError, Store
from tests.execution.tiny_runs import make_jobs
from tests.helpers import can_mount, clean_environment, tiny_spec
from tests.results.rows import begin

SPEC_ID, UID = "1-0123456789abcdef", "0123456789abcdef" * 2
IDENTIFY = """
from pathlib import Path
from dia_repro.execution.leasing import acquire_lock, lock_id
folder = Path("/mnt/checkpoints")
lock = acquire_lock(folder)
print(folder.stat().st_ino, lock_id(folder))
"""


def test_lock_id_is_the_same_for_excluded_processes(tmp_path: Path) -> None:
    lock = acquire_lock(tmp_path / "run")
    assert lock is not None
    identity = lock_id(tmp_path / "run")
    lock.release()
    again = acquire_lock(tmp_path / "run")
    assert again is not None
    assert lock_id(tmp_path / "run") == identity
    again.release()
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert lock_id(tmp_path / "copy") != identity


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="mounting needs root")
def test_containers_with_equal_names_are_told_apart() -> None:
    """Two have the same host name, path and inode number, and share a database."""
    command = 'mount -t tmpfs none /mnt && exec "$0" -c "$1"'
    environment = clean_environment(PYTHONPATH=str(Path(dia_repro.__file__).parents[1]))
    answers = [
        subprocess.run(
            ["unshare", "--mount", "sh", "-c", command, sys.executable, IDENTIFY],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for _ in range(2)
    ]
    assert answers[0][0] == answers[1][0], "the inode numbers differ: nothing is shown"
    assert answers[0][1] != answers[1][1]


@pytest.mark.parametrize(
    ("spec_id", "uid"),
    [
        ("/home/me", UID),
        (SPEC_ID, "/../docs"),
        ("..", UID),
        ("", UID),
        (SPEC_ID, UID.upper()),
        (f"{SPEC_ID}\n", UID),
        ("../1-0123456789abcdef", UID),
    ],
)
def test_ids_that_are_not_ours_are_no_paths(spec_id: str, uid: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="was not made by dia-repro"):
        run_folder(Store(tmp_path), spec_id, 0, uid)


@pytest.mark.parametrize(
    "remove",
    [
        lambda store: store.part(f"{SPEC_ID}/seed-0-01234567").remove(""),
        lambda store: store.remove(f"{SPEC_ID}/seed-0-01234567/thesis.txt"),
        lambda store: store.part("../elsewhere").remove(""),
        lambda store: store.part(f"{SPEC_ID}/..").remove(""),
    ],
)
def test_nothing_is_removed_outside_the_store(
    remove: Callable[[Store], None], tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere" / "seed-0-01234567"
    elsewhere.mkdir(parents=True)
    (elsewhere / "thesis.txt").write_text("years of work", encoding="utf-8")
    store = Store(tmp_path / "checkpoints")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / SPEC_ID).symlink_to(elsewhere.parent, target_is_directory=True)
    with pytest.raises(CheckpointError, match="leads out of"):
        remove(store)
    assert (elsewhere / "thesis.txt").exists()


def test_a_store_may_itself_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk" / SPEC_ID / "seed-0-01234567").mkdir(parents=True)
    (tmp_path / "checkpoints").symlink_to(tmp_path / "disk", target_is_directory=True)
    Store(tmp_path / "checkpoints", f"{SPEC_ID}/seed-0-01234567").remove("")
    assert not (tmp_path / "disk" / SPEC_ID / "seed-0-01234567").exists()


def test_nothing_is_written_through_links(tmp_path: Path) -> None:
    """Into a folder that others can write to, links may have been put where files will be."""
    victim = tmp_path / "victim.txt"
    victim.write_text("years of work", encoding="utf-8")
    run = tmp_path / "run"
    run.mkdir()
    (run / "traceback.txt").symlink_to(victim)
    (run / "lock-id").symlink_to(tmp_path / "made.txt")
    Store(tmp_path).write("run/traceback.txt", b"a reason")
    assert (run / "traceback.txt").read_bytes() == b"a reason"
    lock = acquire_lock(run)
    assert lock is not None
    assert lock_id(run) == lock_id(run)
    lock.release()
    assert victim.read_text(encoding="utf-8") == "years of work"
    assert not (tmp_path / "made.txt").exists()


def test_copies_of_a_database_share_no_checkpoints(tmp_path: Path) -> None:
    """`runs rm` in a backup must not remove what the database itself still needs."""
    names = ("runs.db", "runs.bak", "runs.sqlite", "runs.db.before-upgrade-1", "runs")
    stores = {
        str(checkpoint_store(open_database(str(tmp_path / name), create=False))) for name in names
    }
    assert len(stores) == len(names)


def test_run_taken_up_meanwhile_is_not_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`db check` watches owners elsewhere for a minute, in which others can begin again."""
    database, jobs = make_jobs(tmp_path, [tiny_spec()], 3)
    store = jobs[0].checkpoints
    numbers = [job.run_id for job in jobs]
    for number in numbers[:2]:
        folder = lock_location(folder_of(store, run_detail(database, number).summary))
        lock = acquire_lock(folder)
        assert lock is not None
        begin(database, number, "killed", lock_id(folder))
        lock.release()
    begin(database, numbers[2], "elsewhere", "elsewhere")
    assert sorted(dead_runs(database, store, lease=0.0)) == numbers

    def sleep(_seconds: float) -> None:
        place = lock_id(lock_location(folder_of(store, run_detail(database, numbers[0]).summary)))
        begin(database, numbers[0], "alive", place)

    monkeypatch.setattr(time, "sleep", sleep)
    dead = dead_runs(database, store, lease=0.01)
    assert sorted(dead) == numbers[1:]
    begin(database, numbers[1], "alive", str(dead[numbers[1]].lock_id))  # type: ignore[union-attr]
    assert [free(database, number, owner) for number, owner in dead.items()] == [False, True]
    states = [run_detail(database, number).summary.state for number in numbers]
    assert states == [State.RUNNING, State.RUNNING, State.INTERRUPTED]
