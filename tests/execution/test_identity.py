"""Locks and folders are known by what they are, not by names that others can have too."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import dia_repro
from dia_repro.execution.claiming import lock_folder, place_of
from dia_repro.training.checkpoint import run_folder
from dia_repro.training.disk import Disk
from dia_repro.training.store import CheckpointError
from tests.helpers import can_mount, clean_environment

SPEC_ID, UID = "1-0123456789abcdef", "0123456789abcdef" * 2
IDENTIFY = """
import sys
from pathlib import Path
from dia_repro.execution.claiming import lock_folder, place_of
folder = Path("/mnt/checkpoints")
lock = lock_folder(folder)
print(folder.stat().st_ino, place_of(folder))
"""


def test_a_lock_is_the_same_for_those_whom_it_excludes(tmp_path: Path) -> None:
    lock = lock_folder(tmp_path / "run")
    assert lock is not None
    identity = place_of(tmp_path / "run")
    lock.release()
    again = lock_folder(tmp_path / "run")
    assert again is not None
    assert place_of(tmp_path / "run") == identity
    again.release()
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert place_of(tmp_path / "copy") != identity


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
        run_folder(Disk(tmp_path), spec_id, 0, uid)


@pytest.mark.parametrize(
    "remove",
    [
        lambda store: store.remove_folder(f"{SPEC_ID}/seed-0-01234567"),
        lambda store: store.remove(f"{SPEC_ID}/seed-0-01234567/thesis.txt"),
        lambda store: store.remove_folder("../elsewhere"),
        lambda store: store.remove_folder(f"{SPEC_ID}/.."),
    ],
)
def test_nothing_is_removed_outside_the_store(
    remove: Callable[[Disk], None], tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere" / "seed-0-01234567"
    elsewhere.mkdir(parents=True)
    (elsewhere / "thesis.txt").write_text("years of work", encoding="utf-8")
    store = Disk(tmp_path / "checkpoints")
    store.folder.mkdir()
    (store.folder / SPEC_ID).symlink_to(elsewhere.parent, target_is_directory=True)
    with pytest.raises(CheckpointError, match="leads out of"):
        remove(store)
    assert (elsewhere / "thesis.txt").exists()


def test_a_store_may_itself_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk" / SPEC_ID / "seed-0-01234567").mkdir(parents=True)
    (tmp_path / "checkpoints").symlink_to(tmp_path / "disk", target_is_directory=True)
    Disk(tmp_path / "checkpoints").remove_folder(f"{SPEC_ID}/seed-0-01234567")
    assert not (tmp_path / "disk" / SPEC_ID / "seed-0-01234567").exists()
