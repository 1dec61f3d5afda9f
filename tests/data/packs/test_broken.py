"""Whatever is wrong with a pack, or with what is asked of it, is one line."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dia_repro.data import DataError, check_data, load
from dia_repro.data.packing import pack
from dia_repro.data.sources.packed import (
    IMAGES,
    INDEX,
    MANIFEST,
    Manifest,
    PackedSplit,
    open_pack,
    row_type,
)
from dia_repro.experiments.names import DataLocation
from tests.data.packs import TRAIN, chosen, job


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def rewrite(**fields: object) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return damage


@pytest.mark.parametrize(
    ("file", "damage", "words"),
    [
        (IMAGES, cut, r"images is damaged: it has .* bytes instead of"),
        (IMAGES, Path.unlink, r"cannot read .*images"),
        (IMAGES, pipe, r"images is damaged: it has 0 bytes"),
        (INDEX, cut, r"index is damaged: it has .* bytes; delete it"),
        (INDEX, flip, r"index is damaged: its bytes are not those that were written"),
        (INDEX, Path.unlink, r"cannot read .*index"),
        (INDEX, pipe, r"index is damaged: not a regular file"),
        (INDEX, lambda path: os.truncate(path, 1 << 42), r"index is damaged: .* bytes, more than"),
        (MANIFEST, lambda path: os.truncate(path, 1 << 28), "pack.json is damaged"),
        (MANIFEST, cut, "pack.json is damaged"),
        (MANIFEST, lambda path: path.write_text("[1]"), "pack.json is damaged"),
        (MANIFEST, lambda path: path.write_text("[" * 100_000), "pack.json is damaged"),
        (MANIFEST, lambda path: path.write_bytes(b"\xff"), "pack.json is damaged"),
        (MANIFEST, rewrite(format=4), r"by a newer dia-repro \(format 4, not 3\)"),
        (MANIFEST, rewrite(format=2), r"by an earlier dia-repro .*: delete it and pack"),
        (MANIFEST, rewrite(classes=["synthetic0", 1]), "pack.json is damaged"),
        (MANIFEST, rewrite(side=95), "changed by hand"),
        (MANIFEST, rewrite(more=1), "pack.json is damaged"),
        (MANIFEST, rewrite(content_hash=None), "changed by hand"),
        (MANIFEST, Path.unlink, "is not a pack"),
    ],
)
def test_a_broken_pack_is_refused_in_a_line(
    packed: Path, file: str, damage: Callable[[Path], object], words: str
) -> None:
    damage(packed / file)
    with pytest.raises(DataError, match=words) as caught:
        open_pack(packed)
    assert "\n" not in str(caught.value)


def test_a_damaged_image_is_named_by_check_and_whenever_it_is_read(packed: Path) -> None:
    flip(packed / IMAGES)
    pack = open_pack(packed)
    with pytest.raises(DataError, match=r"jpg in .*images is damaged: its bytes are not") as caught:
        check_data(f"packed:{packed}", packed.parent)
    assert "\n" not in str(caught.value)
    wrong = [index for index in range(TRAIN) if not readable(pack.train, index)]
    assert len(wrong) == 1


def readable(split: PackedSplit, index: int) -> bool:
    try:
        split.read(index)
    except DataError:
        return False
    return True


def huge(rows: np.ndarray) -> None:
    rows["size"][-1] = 1 << 60


def negative(rows: np.ndarray) -> None:
    rows["size"][0] *= -1


def of_no_class(rows: np.ndarray) -> None:
    rows["label"][3] = 2


def of_one_class(rows: np.ndarray) -> None:
    rows["label"][:TRAIN] = 0


@pytest.mark.parametrize("change", [huge, negative, of_no_class, of_one_class])
def test_a_hostile_index_is_refused_whatever_its_hash(
    packed: Path, change: Callable[[np.ndarray], None]
) -> None:
    rows = np.fromfile(packed / INDEX, row_type(open_pack(packed).manifest.name_bytes))
    change(rows)
    (packed / INDEX).write_bytes(rows.tobytes())
    describe(packed, index_hash=hashlib.sha256(rows.tobytes()).hexdigest())
    with pytest.raises(
        DataError, match=r"index is damaged: its bytes are not those that were written"
    ):
        open_pack(packed)


def describe(packed: Path, **changed: object) -> None:
    """Write another description of a pack, with its hash."""
    fields = json.loads((packed / MANIFEST).read_text())
    del fields["content_hash"]
    values = {**fields, "classes": tuple(fields["classes"]), **changed}
    manifest = Manifest.model_construct(**values)  # whatever they are
    (packed / MANIFEST).write_bytes(manifest.to_json())


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"side": 10**6}, "pack.json is damaged"),
        ({"classes": ()}, "pack.json is damaged"),
        ({"classes": ("synthetic0", "synthetic0")}, "pack.json is damaged"),
        ({"classes": ("", "synthetic0")}, "pack.json is damaged"),
        ({"classes": ("a", "b", "c")}, "index is damaged"),  # one without images
        ({"name_bytes": 1 << 16}, "pack.json is damaged"),
        ({"train": 10**12}, "index is damaged"),
    ],
)
def test_a_hostile_description_is_refused_whatever_its_hash(
    packed: Path, changed: dict[str, object], words: str
) -> None:
    describe(packed, **changed)
    with pytest.raises(DataError, match=words):
        open_pack(packed)


def test_a_sparse_index_of_gigabytes_is_not_read(packed: Path) -> None:
    width = row_type(open_pack(packed).manifest.name_bytes).itemsize
    os.truncate(packed / INDEX, width * (10**9 + 1))
    describe(packed, train=10**9, test=1)
    with pytest.raises(DataError, match=r"index is damaged: .* bytes, more than 4,295 million"):
        open_pack(packed)


def test_an_image_that_changes_before_it_is_packed_is_named(images: Path) -> None:
    wanted = job(images, side=0)
    content = images / "train" / "synthetic1" / "3.jpg"
    content.write_bytes(content.read_bytes()[:200])  # after it was looked through
    with pytest.raises(DataError, match=r"3.jpg has changed since packing began"):
        pack(wanted)


def test_damaged_images_are_named_or_left_out(images: Path) -> None:
    cut(images / "train" / "synthetic0" / "2.jpg")
    with pytest.raises(DataError, match=r"1 damaged .*train/synthetic0/2.jpg"):
        job(images)
    made, _ = pack(job(images, skip_damaged=True))
    assert len(made.train) == TRAIN - 1


def test_other_images_under_the_same_path_are_refused(
    images: Path, packed: Path, tmp_path: Path
) -> None:
    spec = chosen(packed).spec
    other = replace(job(images, side=100), target=tmp_path / "other")
    pack(other)
    with pytest.raises(DataError, match="not those that the run was asked for"):
        load(spec, DataLocation(tmp_path, other.target))
    with pytest.raises(DataError, match="give its path with --dataset"):
        load(spec, DataLocation(tmp_path))


@pytest.mark.parametrize(
    ("size", "words"), [(97, "too few for --image-size"), (64, "more than 64")]
)
def test_image_sizes_that_a_pack_is_not_for(packed: Path, size: int, words: str) -> None:
    with pytest.raises(DataError, match=words):
        chosen(packed, size)
