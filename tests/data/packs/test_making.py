"""Making packs: interrupted, repeated, on a full disk, by two at a time."""

from __future__ import annotations

import io
import pickle
import resource
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from PIL import ExifTags, Image

from dia_repro.data import DataError, imagenet, packing, shards
from dia_repro.data.folder import scan
from dia_repro.data.manifest import MANIFEST, Shard
from dia_repro.data.packed import Pack, choose_packed, open_pack
from dia_repro.data.packing import imagenet_source, pack
from dia_repro.data.photographs import photograph
from dia_repro.data.shards import Job
from tests.data.packs import TEST, TRAIN, job
from tests.helpers import write_folder


def test_files_are_split_and_found_by_number(
    images: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "SHARD", 4)
    monkeypatch.setattr(shards, "BATCH_IMAGES", 3)
    wanted = job(images, side=0)
    manifest, _ = pack(wanted, memory)
    assert [shard.images for shard in manifest.train] == [4, 4, 3]
    train = open_pack(wanted.target, memory).train
    stored = [train.jpeg(number).tobytes() for number in range(TRAIN)]
    originals = scan(images).train
    assert stored == [originals.file(images, n).read_bytes() for n in range(TRAIN)]
    some = pickle.loads(pickle.dumps(train.at(np.array([10, 3]))))
    assert [some.jpeg(0).tobytes(), some.jpeg(1).tobytes()] == [stored[10], stored[3]]
    assert some.labels.tolist() == train.labels[[10, 3]].tolist()


def test_what_was_interrupted_goes_on_after_the_last_whole_file(
    images: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "SHARD", 4)
    wanted = job(images)
    whole, _ = pack(replace(wanted, target=images.parent / "whole"), memory)
    written: list[str] = []
    write = shards.write_shard

    def stops(*arguments: object) -> object:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(str(arguments[1]))
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(packing, "write_shard", stops)
    with pytest.raises(KeyboardInterrupt):
        pack(wanted, memory)
    assert not wanted.target.exists(), "no half a pack"
    with pytest.raises(DataError, match="there is no pack"):
        open_pack(wanted.target, memory)
    # One of the two was not whole after all, as after a power cut.
    broken = wanted.target.with_name("pack.partial") / "train-00001.arrow"
    broken.write_bytes(broken.read_bytes()[:-300])
    written[:] = ["", ""]
    seen: list[int] = []

    def noted(job: Job, path: Path, *rest: Any) -> Shard:
        written.append(path.name)
        return write(job, path, *rest)

    monkeypatch.setattr(packing, "write_shard", noted)
    manifest, found = pack(wanted, memory, lambda done, total: seen.append(done))
    assert not found
    assert written[2:] == ["train-00001.arrow", "train-00002.arrow", "test-00000.arrow"]
    assert manifest == whole
    assert seen[-1] == TRAIN + TEST
    assert seen == sorted(seen)
    assert {path.name for path in wanted.target.iterdir()} == {
        MANIFEST,
        *(shard.file for shard in (*manifest.train, *manifest.test)),
    }


def test_files_of_another_job_are_not_gone_on_with(
    images: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = job(images)
    partial = wanted.target.with_name("pack.partial")
    other = replace(wanted, side=100)
    monkeypatch.setattr(Path, "rename", lambda self, target: self.replace(target))
    pack(other, memory)
    other.target.replace(partial)
    manifest, _ = pack(wanted, memory)
    assert manifest.side == 96
    with Image.open(io.BytesIO(open_pack(wanted.target, memory).train.jpeg(0).tobytes())) as image:
        assert min(image.size) == 96


def test_a_pack_that_is_there_is_left_alone(images: Path, packed: Path, memory: Path) -> None:
    before = (packed / MANIFEST).stat().st_mtime_ns
    assert pack(job(images), memory)[1]
    assert (packed / MANIFEST).stat().st_mtime_ns == before
    with pytest.raises(DataError, match="another pack"):
        pack(job(images, side=100), memory)


def test_a_full_disk_is_said_and_nothing_half_is_left(images: Path, memory: Path) -> None:
    wanted = job(images)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises(DataError, match=r"^cannot write .*pack.partial: ") as caught:
            pack(wanted, memory)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "\n" not in str(caught.value)
    assert not wanted.target.exists()
    assert not list(wanted.target.with_name("pack.partial").glob("*.arrow*"))
    assert not pack(wanted, memory)[1]


def test_two_processes_do_not_write_one_pack(images: Path, memory: Path) -> None:
    wanted = job(images)
    partial = wanted.target.with_name("pack.partial")
    partial.mkdir()
    with FileLock(partial / "lock"), pytest.raises(DataError, match="by another process"):
        pack(wanted, memory)
    assert not pack(wanted, memory)[1]


def test_a_disk_that_is_too_small_is_said_before_it_is_full(
    images: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "SHARD", 4)
    usage = shutil.disk_usage(images)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=20_000))
    with pytest.raises(DataError, match=r"about 0.0 GB more .* same command goes on"):
        pack(job(images), memory)


def test_imagenet_is_packed_as_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in (("CLASSES", 2), ("TRAINING_IMAGES", 4), ("TEST_IMAGES", 2)):
        monkeypatch.setattr(imagenet, name, count)
    write_folder(tmp_path / "imagenet", {"train": 2, "val": 1}, side=300, suffix="JPEG")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    photograph(1).save(tmp_path / "imagenet" / "val" / "cat" / "0.JPEG", exif=exif)
    source, classes = imagenet_source(tmp_path)
    wanted = Job(source, classes, tmp_path / "pack", 256, 90, 1)
    manifest, _ = pack(wanted, tmp_path / "inspections")
    assert manifest.name == "packed:imagenet-256-q90"
    found = open_pack(wanted.target, tmp_path / "inspections")
    assert isinstance(found, Pack)
    with Image.open(io.BytesIO(found.test.jpeg(0).tobytes())) as image:
        assert image.size == (341, 256)
    assert choose_packed(wanted.target, None, tmp_path).spec.image_size == 224
