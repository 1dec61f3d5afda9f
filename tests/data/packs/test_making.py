"""Making packs: interrupted, repeated, on a full disk, by two at a time."""

from __future__ import annotations

import io
import os
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

from benchmarks.photographs import photograph
from dia_repro import atomic
from dia_repro.data import DataError, known_data, load, packing
from dia_repro.data.dataset import StreamedDataset
from dia_repro.data.image_folder import scan
from dia_repro.data.packing import Job, pack
from dia_repro.data.sources import imagenet
from dia_repro.data.sources.packed import IMAGES, INDEX, MANIFEST, open_pack
from dia_repro.experiments.names import DataLocation
from tests.data.packs import TEST, TRAIN, chosen, job
from tests.helpers import write_folder


def test_images_are_found_by_number_also_in_another_process(images: Path) -> None:
    wanted = job(images, side=0)
    train = pack(wanted)[0].train
    stored = [train.read(number) for number in range(TRAIN)]
    originals = scan(images).train
    assert stored == [originals.file(number).read_bytes() for number in range(TRAIN)]
    some = pickle.loads(pickle.dumps(train.at(np.array([10, 3]))))
    assert [some.read(0), some.read(1)] == [stored[10], stored[3]]
    assert some.labels.tolist() == train.labels[[10, 3]].tolist()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("lost", [0, 300, 10_000])
def test_what_was_interrupted_continues_after_the_last_whole_images(
    images: Path, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    wanted = job(images)
    whole = replace(wanted, target=images.parent / "whole")
    pack(whole)
    monkeypatch.setattr(packing, "BLOCK", 4)
    converted = 0
    convert = packing.packed_jpeg

    def stops(*arguments: object, **named: object) -> bytes:
        nonlocal converted
        converted += 1
        if converted == 10:
            raise KeyboardInterrupt
        return convert(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(packing, "packed_jpeg", stops)
    with pytest.raises(KeyboardInterrupt):
        pack(wanted)
    assert not wanted.target.exists(), "no half a pack"
    with pytest.raises(DataError, match="there is no pack"):
        open_pack(wanted.target)
    partial = wanted.target.with_name("pack.partial")
    size = (partial / INDEX).stat().st_size
    assert size % 8 == 0, "two blocks of four images"
    if lost:  # as after a loss of power
        length = (partial / IMAGES).stat().st_size
        os.truncate(partial / IMAGES, max(0, length - lost))
        os.truncate(partial / INDEX, size - 3)
    converted, seen = 100, []
    made, found = pack(wanted, lambda done, total: seen.append(done))
    assert not found
    assert TRAIN + TEST - 8 <= converted - 100 < TRAIN + TEST
    assert seen[-1] == TRAIN + TEST
    assert seen == sorted(seen)
    assert files(wanted.target) == files(whole.target)
    assert {*files(wanted.target)} == {MANIFEST, IMAGES, INDEX}
    assert len(made.train) == TRAIN


def interrupted(wanted: Job) -> Path:
    """Pack, and leave it as if the process had been killed before the pack had its name."""
    pack(wanted)
    partial = wanted.target.rename(wanted.target.with_name("pack.partial"))
    (partial / MANIFEST).write_bytes(wanted.manifest.to_json())
    return partial


@pytest.mark.parametrize("file", [IMAGES, INDEX])
@pytest.mark.parametrize("kept", [0, 0.5, 0.9])
def test_zeros_at_an_end_are_not_taken_for_images(images: Path, file: str, kept: float) -> None:
    """As a loss of power, or a disk, leaves them."""
    wanted = job(images)
    partial = interrupted(wanted)
    whole = files(partial)
    size = len(whole[file])
    os.truncate(partial / file, int(size * kept))
    os.truncate(partial / file, size)
    made, found = pack(wanted)
    assert not found
    assert len(made.train) == TRAIN
    after = files(wanted.target)
    assert {name: after[name] for name in (IMAGES, INDEX)} == {
        name: whole[name] for name in (IMAGES, INDEX)
    }


def test_nothing_is_converted_again_that_is_whole(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = job(images)
    interrupted(wanted)
    monkeypatch.setattr(packing, "packed_jpeg", None)
    assert len(pack(wanted)[0].train) == TRAIN


def test_a_pack_that_is_not_whole_is_not_published(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = job(images)
    block = packing._block

    def misplaced(*arguments: Any) -> list[packing.Row]:
        return [(row[0] + 1, *row[1:]) for row in block(*arguments)]

    monkeypatch.setattr(packing, "_block", misplaced)
    with pytest.raises(DataError, match=r"partial/images is damaged"):
        pack(wanted)
    assert not wanted.target.exists()


def test_classes_need_not_be_named_in_utf_8(images: Path) -> None:
    for path in images.glob("*/synthetic1"):
        folder = os.fsencode(path)
        os.rename(folder, folder[:-1] + b"\xff")  # noqa: PTH104 - a name in bytes
    wanted = job(images)
    assert pack(wanted)[0].manifest.classes[1] == os.fsdecode(b"synthetic\xff")
    assert pack(wanted)[1]


def test_images_of_another_job_are_not_continued(images: Path) -> None:
    wanted = job(images)
    partial = wanted.target.with_name("pack.partial")
    pack(replace(wanted, side=100))
    wanted.target.replace(partial)
    made, _ = pack(wanted)
    assert made.manifest.side == 96
    with Image.open(io.BytesIO(made.train.read(0))) as image:
        assert min(image.size) == 96


def test_a_pack_that_is_there_is_left_alone(images: Path, packed: Path) -> None:
    before = (packed / MANIFEST).stat().st_mtime_ns
    assert pack(job(images))[1]
    assert (packed / MANIFEST).stat().st_mtime_ns == before
    with pytest.raises(DataError, match="another pack"):
        pack(job(images, side=100))


def test_a_full_disk_is_said_and_nothing_half_is_left(images: Path) -> None:
    wanted = job(images)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises(DataError, match=r"^cannot write .*pack.partial: ") as caught:
            pack(wanted)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "\n" not in str(caught.value)
    assert not wanted.target.exists()
    assert not pack(wanted)[1]


def test_a_pack_is_locked_until_it_has_its_name(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, refused = job(images), list[DataError]()

    def another(partial: Path, target: Path) -> None:
        if target == wanted.target:
            with pytest.raises(DataError, match="by another process") as caught:
                pack(wanted)
            refused.append(caught.value)
        atomic.publish(partial, target)

    monkeypatch.setattr("dia_repro.data.packing.publish", another)
    assert not pack(wanted)[1]
    assert len(refused) == 1
    assert {*files(wanted.target)} == {MANIFEST, IMAGES, INDEX}
    assert not list(images.parent.glob("pack.*")), "no lock is left"


def test_two_processes_do_not_write_one_pack(images: Path) -> None:
    wanted = job(images)
    partial = wanted.target.with_name("pack.partial")
    with FileLock(packing.lock_of(partial)), pytest.raises(DataError, match="by another process"):
        pack(wanted)
    assert not pack(wanted)[1]


@pytest.mark.parametrize(
    "name", ["pack.partial", "pack.partial.lock", f"pack.partial/{IMAGES}", f"pack.partial/{INDEX}"]
)
def test_links_of_others_are_not_followed(images: Path, name: str, tmp_path: Path) -> None:
    wanted, other = job(images), tmp_path / "other"
    if name == "pack.partial":
        other.mkdir()
    else:
        other.write_bytes(b"other")
    if name.startswith("pack.partial/"):
        interrupted(wanted)
        (images.parent / name).unlink()
    (images.parent / name).symlink_to(other)
    with pytest.raises(DataError, match=r"is a link|symbolic links"):
        pack(wanted)
    assert not wanted.target.exists()
    assert not list(other.iterdir()) if other.is_dir() else other.read_bytes() == b"other"


def test_a_disk_that_is_too_small_is_said_before_it_is_full(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "BLOCK", 4)
    usage = shutil.disk_usage(images)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=20_000))
    with pytest.raises(DataError, match=r"about 0.0 GB more .* same command continues"):
        pack(job(images))


def test_imagenet_is_packed_as_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in (("CLASSES", 2), ("TRAINING_IMAGES", 4), ("TEST_IMAGES", 2)):
        monkeypatch.setattr(imagenet, name, count)
    write_folder(tmp_path / "imagenet", {"train": 2, "val": 1}, side=300, suffix="JPEG")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    photograph(1).save(tmp_path / "imagenet" / "val" / "cat" / "0.JPEG", exif=exif)
    source = load(known_data("imagenet").spec, DataLocation(tmp_path))
    assert isinstance(source, StreamedDataset)
    wanted = Job(source, tmp_path / "pack", 256, 90, 1)
    found, _ = pack(wanted)
    assert found.manifest.name == "packed:imagenet-256-q90"
    with Image.open(io.BytesIO(found.test.read(0))) as image:
        assert image.size == (341, 256)
    assert chosen(wanted.target).spec.image_size == 224


def test_files_that_a_user_has_where_a_pack_is_made_stay(images: Path) -> None:
    wanted = job(images)
    partial, lock = (wanted.target.with_name(f"pack.partial{end}") for end in ("", ".lock"))
    partial.mkdir()
    for name in (INDEX, IMAGES, "other"):
        (partial / name).write_text("mine")
    with pytest.raises(DataError, match=r"pack\.partial holds files of yours: move it away"):
        pack(wanted)
    assert files(partial) == dict.fromkeys((INDEX, IMAGES, "other"), b"mine")
    shutil.rmtree(partial)
    lock.write_text("mine")
    with pytest.raises(DataError, match=r"pack\.partial\.lock is a file of yours"):
        pack(wanted)
    assert lock.read_text() == "mine"
    lock.write_text("")  # as a killed process leaves it
    partial.mkdir()
    (partial / f".{MANIFEST}.0a1b2c3d.partial").touch()
    assert len(pack(wanted)[0].train) == TRAIN
