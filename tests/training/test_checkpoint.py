"""Checkpoints: whole or not there."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from dia_repro.training.checkpoint import CheckpointError, load_newest, save, sorted_files


def content(epoch: int) -> dict[str, object]:
    return {"model": {"w": torch.full((100,), float(epoch))}, "history": [{"epoch": epoch}]}


def loaded_epoch(folder: Path) -> int:
    newest = load_newest(folder)
    assert newest is not None
    epoch = newest.content["history"][0]["epoch"]
    assert torch.equal(newest.content["model"]["w"], torch.full((100,), float(epoch)))
    return int(epoch)


def test_the_newest_is_loaded_and_the_one_before_kept(tmp_path: Path) -> None:
    assert load_newest(tmp_path) is None
    for epoch in (1, 2, 3):
        save(tmp_path, content(epoch), epoch, 0)
        assert loaded_epoch(tmp_path) == epoch
    assert [path.name[:10] for path in sorted_files(tmp_path)] == ["epoch-0003", "epoch-0002"]


def test_a_step_within_an_epoch_is_newer_than_its_start(tmp_path: Path) -> None:
    save(tmp_path, content(7), 7, 0)
    save(tmp_path, content(8), 7, 120)
    assert loaded_epoch(tmp_path) == 8


def test_truncated_anywhere_the_one_before_is_used(tmp_path: Path) -> None:
    save(tmp_path, content(1), 1, 0)
    path = save(tmp_path, content(2), 2, 0)
    whole = path.read_bytes()
    for part in range(64):
        path.write_bytes(whole[: len(whole) * part // 64])
        newest = load_newest(tmp_path)
        assert newest is not None
        assert newest.damaged == (path,)
        assert loaded_epoch(tmp_path) == 1
    path.write_bytes(whole)
    assert loaded_epoch(tmp_path) == 2


def test_any_flipped_bit_is_found(tmp_path: Path) -> None:
    save(tmp_path, content(1), 1, 0)
    path = save(tmp_path, content(2), 2, 0)
    whole = path.read_bytes()
    rng = random.Random(0)
    for _ in range(200):
        bit = rng.randrange(8 * len(whole))
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert loaded_epoch(tmp_path) == 1


def test_unfinished_and_foreign_files_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "epoch-0009-step-00000-abc.partial").write_bytes(b"half")
    (tmp_path / "epoch-nine.pt").write_bytes(b"other")
    assert load_newest(tmp_path) is None
    save(tmp_path, content(1), 1, 0)
    assert loaded_epoch(tmp_path) == 1


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "pwned",))

    save(tmp_path, {"history": Evil()}, 1, 0)
    with pytest.raises(Exception, match=r"(?i)weights"):
        load_newest(tmp_path)
    assert not (tmp_path / "pwned").exists()


def test_where_nothing_can_be_written_it_says_so(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(CheckpointError, match="cannot write a checkpoint"):
        save(blocked / "run", content(1), 1, 0)
