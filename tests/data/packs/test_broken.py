"""Whatever is wrong with a pack, or with what is asked of it, is one line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dia_repro.data import DataError, load
from dia_repro.data.manifest import MANIFEST, Manifest, file_hash
from dia_repro.data.packed import choose_packed, open_pack
from dia_repro.data.packing import pack
from dia_repro.errors import AbsentError
from dia_repro.experiments.names import DataLocation
from tests.data.packs import TEST, TRAIN, job


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def rewrite(**fields: object) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return damage


@pytest.mark.parametrize(
    ("file", "damage", "words"),
    [
        ("train-00000.arrow", cut, r"train-00000.arrow is damaged: it has .* bytes instead of"),
        ("train-00000.arrow", flip, r"train-00000.arrow is damaged: its bytes are not those"),
        ("test-00000.arrow", Path.unlink, r"cannot read .*test-00000.arrow"),
        (MANIFEST, cut, "pack.json is damaged"),
        (MANIFEST, lambda path: path.write_text("[1]"), "pack.json is damaged"),
        (MANIFEST, lambda path: path.write_bytes(b"\xff"), "pack.json is damaged"),
        (MANIFEST, rewrite(format=2), r"by a newer dia-repro \(format 2, not 1\)"),
        (MANIFEST, rewrite(format=0), r"by another dia-repro"),
        (MANIFEST, rewrite(side=95), "changed by hand"),
        (MANIFEST, rewrite(more=1), "pack.json is damaged"),
        (MANIFEST, Path.unlink, "is not a pack"),
    ],
)
def test_a_broken_pack_is_refused_in_a_line(
    packed: Path, memory: Path, file: str, damage: Callable[[Path], object], words: str
) -> None:
    damage(packed / file)
    with pytest.raises(DataError, match=words) as caught:
        open_pack(packed, memory)
    assert "\n" not in str(caught.value)


def test_bytes_are_looked_at_once_until_a_file_changes(packed: Path, memory: Path) -> None:
    looks: list[int] = []
    open_pack(packed, memory, lambda done, total: looks.append(done))
    assert not looks, "they were just written"
    os.utime(packed / "test-00000.arrow")
    open_pack(packed, memory, lambda done, total: looks.append(done))
    assert looks == [TRAIN, TRAIN + TEST]
    open_pack(packed, memory, lambda done, total: looks.append(done))
    assert len(looks) == 2


def test_a_file_that_pyarrow_cannot_read_is_refused_in_a_line(packed: Path, memory: Path) -> None:
    """As where its hash was taken of nonsense."""
    path = packed / "test-00000.arrow"
    path.write_bytes(b"nonsense" * 100)
    said = json.loads((packed / MANIFEST).read_text())
    del said["checksum"]
    manifest = Manifest.model_validate_json(json.dumps(said))
    digest = file_hash(path)
    shard = manifest.test[0].model_copy(update={"size": 800, "sha256": digest})
    changed = manifest.model_copy(update={"test": (shard,)})
    (packed / MANIFEST).write_text(changed.to_json())
    with pytest.raises(DataError, match=r"test-00000.arrow: it is damaged"):
        open_pack(packed, memory)


def test_a_packed_image_that_cannot_be_decoded_is_named(images: Path, memory: Path) -> None:
    wanted = job(images, side=0)
    content = images / "train" / "made-up1" / "3.jpg"
    content.write_bytes(content.read_bytes()[:200])  # after it was looked through
    with pytest.raises(DataError, match=r"3.jpg has changed since packing began"):
        pack(wanted, memory)


def test_damaged_images_are_named_or_left_out(images: Path, memory: Path) -> None:
    cut(images / "train" / "made-up0" / "2.jpg")
    with pytest.raises(DataError, match=r"1 damaged .*train/made-up0/2.jpg"):
        job(images)
    manifest, _ = pack(job(images, skip_damaged=True), memory)
    assert manifest.train[0].images == TRAIN - 1


def test_other_images_under_the_same_path_are_refused(
    images: Path, packed: Path, memory: Path, tmp_path: Path
) -> None:
    spec = choose_packed(packed, None, memory.parent).spec
    other = replace(job(images, side=100), target=tmp_path / "other")
    pack(other, memory)
    with pytest.raises(DataError, match="not those that the run was asked for"):
        load(spec, DataLocation(memory.parent, other.target))
    with pytest.raises(DataError, match="give its path with --dataset"):
        load(spec, DataLocation(memory.parent))


@pytest.mark.parametrize(
    ("size", "words"), [(97, "too few for --image-size"), (64, "more than 64")]
)
def test_image_sizes_that_a_pack_is_not_for(
    packed: Path, memory: Path, size: int, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        choose_packed(packed, size, memory.parent)


def test_without_pyarrow_the_extra_is_named(
    packed: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(AbsentError, match=r"pip install 'dia-repro\[pack\]'"):
        open_pack(packed, memory)
