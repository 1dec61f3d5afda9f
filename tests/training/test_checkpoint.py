"""Checkpoints: whole or not there, on a disk as in an object store."""

from __future__ import annotations

import hashlib
import io
import pickle
import random
import secrets
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from dia_repro.experiments.names import Keep
from dia_repro.training.checkpoint import load_newest, retain, save, sorted_names
from dia_repro.training.store import CheckpointError, Store
from tests.helpers import clean_environment


def content(epoch: int) -> dict[str, object]:
    return {"model": {"w": torch.full((100,), float(epoch))}, "history": [{"epoch": epoch}]}


def loaded_epoch(folder: Store) -> int:
    newest = load_newest(folder)
    assert newest is not None
    epoch = newest.content["history"][0]["epoch"]
    assert torch.equal(newest.content["model"]["w"], torch.full((100,), float(epoch)))
    return int(epoch)


def epochs(folder: Store) -> list[int]:
    return [int(name.split("-")[1]) for name in sorted_names(folder)]


@pytest.fixture(params=["disk", "memory", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A run's folder in each kind of store; the one in memory stands for all that fsspec knows."""
    store: Store = Store(tmp_path / "store")
    if request.param == "memory":
        store = Store(f"memory://{secrets.token_hex(8)}")
    elif request.param == "s3":
        store = Store(f"{request.getfixturevalue('bucket')}/project")
    return store.part("1-abc/seed-0-123")


def test_the_newest_is_loaded_and_the_one_before_kept(folder: Store) -> None:
    assert load_newest(folder) is None
    for epoch in (1, 2, 3):
        save(folder, content(epoch), epoch, 0)
        assert loaded_epoch(folder) == epoch
    assert epochs(folder) == [3, 2]


def test_a_step_within_an_epoch_is_newer_than_its_start(folder: Store) -> None:
    save(folder, content(7), 7, 0)
    save(folder, content(8), 7, 120)
    assert loaded_epoch(folder) == 8


@pytest.mark.parametrize(
    ("keep", "best", "left"),
    [(Keep.LAST, 1, [4]), (Keep.BEST, 1, [1]), (Keep.BEST, 2, [4]), (Keep.NONE, 1, [])],
)
def test_retain_keeps_the_chosen_checkpoint(
    keep: Keep, best: int, left: list[int], folder: Store
) -> None:
    for epoch in (1, 2, 3, 4):
        save(folder, content(epoch), epoch, 0, spare=1)
    assert epochs(folder) == [4, 3, 1]
    retain(folder, keep, best)
    assert epochs(folder) == left


def test_a_truncated_checkpoint_is_skipped(folder: Store) -> None:
    save(folder, content(1), 1, 0)
    name = save(folder, content(2), 2, 0)
    whole = folder.read(name)
    for part in range(0, 64, 9 if "s3" in str(folder) else 1):
        folder.write(name, whole[: len(whole) * part // 64])
        newest = load_newest(folder)
        assert newest is not None
        assert newest.damaged == (name,)
        assert loaded_epoch(folder) == 1
    folder.write(name, whole)
    assert loaded_epoch(folder) == 2


def test_any_flipped_bit_is_found(folder: Store) -> None:
    save(folder, content(1), 1, 0)
    name = save(folder, content(2), 2, 0)
    whole = folder.read(name)
    rng = random.Random(0)
    for _ in range(10 if "s3" in str(folder) else 200):
        bit = rng.randrange(8 * len(whole))
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        folder.write(name, bytes(damaged))
        assert loaded_epoch(folder) == 1


def test_unfinished_and_foreign_files_are_no_checkpoints(folder: Store) -> None:
    folder.write("epoch-0009-step-00000-abc.partial", b"half")
    folder.write("epoch-nine.pt", b"other")
    assert load_newest(folder) is None
    save(folder, content(1), 1, 0)
    assert loaded_epoch(folder) == 1


def test_code_in_a_checkpoint_is_not_run(folder: Store, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "pwned",))

    save(folder, {"history": Evil()}, 1, 0)
    with pytest.raises(CheckpointError, match="torch cannot load it: UnpicklingError"):
        load_newest(folder)
    assert not (tmp_path / "pwned").exists()


def test_folders_of_runs_are_found_with_their_bytes_and_removed(folder: Store) -> None:
    store = folder.part("")
    assert store.run_folders() == {}
    other = store.part("1-abc/seed-1-456")
    folder.write("a", b"123")
    folder.write("b", b"4567")
    other.write("a", b"1")
    store.write("elsewhere", b"12345")
    assert store.run_folders() == {folder.path: 7, other.path: 1}
    folder.remove("a")
    folder.remove("a")
    assert folder.names() == ["b"]
    folder.remove("")
    folder.remove("")
    assert store.run_folders() == {other.path: 1}


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(CheckpointError, match="cannot write a checkpoint"):
        save(Store(blocked, "run"), content(1), 1, 0)


def test_an_unreadable_checkpoint_is_an_error(tmp_path: Path) -> None:
    """Else a run would start again from the first epoch."""
    folder = Store(tmp_path, "run")
    name = save(folder, content(1), 1, 0)
    (tmp_path / "run" / name).unlink()
    (tmp_path / "run" / name).mkdir()
    with pytest.raises(CheckpointError, match=r"cannot read .*epoch-0001"):
        load_newest(folder)


def put(folder: Store, epoch: int, content: bytes) -> str:
    """A file whose bytes match its name."""
    name = f"epoch-{epoch:04d}-step-00000-{hashlib.sha256(content).hexdigest()[:32]}.pt"
    folder.write(name, content)
    return name


def with_a_class() -> bytes:
    """What `torch.save` writes and torch does not load with weights alone."""
    buffer = io.BytesIO()
    torch.save({"history": [], "model": Fraction(1, 3)}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "refused", [b"", b"no checkpoint", pickle.dumps([1]), with_a_class()], ids=range(4)
)
def test_sound_file_that_torch_refuses_is_an_error(folder: Store, refused: bytes) -> None:
    """What matches its name was written so; it is not damage, and is not passed over."""
    save(folder, content(1), 1, 0)
    name = put(folder, 2, refused)
    before = sorted(folder.names())
    with pytest.raises(CheckpointError, match=rf"{name} is sound, but torch cannot load it: \w+"):
        load_newest(folder)
    assert sorted(folder.names()) == before


def test_sound_file_without_training_state_is_an_error(folder: Store) -> None:
    buffer = io.BytesIO()
    torch.save([1], buffer)
    name = put(folder, 1, buffer.getvalue())
    with pytest.raises(CheckpointError, match=f"{name} holds no training state"):
        load_newest(folder)


def test_environment_that_stops_torch_is_not_damage(
    folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = save(folder, content(1), 1, 0)
    with monkeypatch.context() as context:
        context.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
        context.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
        with pytest.raises(CheckpointError, match=f"{name} is sound, but torch cannot load it"):
            load_newest(folder)
    assert loaded_epoch(folder) == 1


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from dia_repro.training.checkpoint import load_newest
from dia_repro.training.store import Store
from dia_repro.training.store import CheckpointError, Store

folder = Store(Path.cwd(), "run")
load_newest(folder)  # imports what it needs
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
# Room for the file's bytes, and not for its tensors in addition.
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]), resource.RLIM_INFINITY))
try:
    load_newest(folder)
except CheckpointError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and limits memory as Linux does")
def test_lack_of_memory_is_not_damage(tmp_path: Path) -> None:
    folder = Store(tmp_path, "run")
    size = 256 * 2**20
    name = save(folder, {"w": torch.zeros(size // 4)}, 1, 0)
    done = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY, str(size * 3 // 2)],
        cwd=tmp_path,
        env=clean_environment(MALLOC_ARENA_MAX="1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{name} is sound, but torch cannot load it: RuntimeError" in done.stdout
    assert "can't allocate memory" in done.stdout
    assert folder.names() == [name]
