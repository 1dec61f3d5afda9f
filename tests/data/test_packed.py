"""Packs: what goes in comes out, in the same batches; whatever is wrong with one is one line."""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import ExifTags, Image

from dia_repro.data import DataError, StreamedDataset, batches_of, imagenet, load, packing, shards
from dia_repro.data.decoding import centred, from_jpeg, random_crop
from dia_repro.data.folder import scan
from dia_repro.data.manifest import MANIFEST, Manifest, Shard, file_hash
from dia_repro.data.packed import Pack, choose_packed, open_pack
from dia_repro.data.packing import folder_source, imagenet_source, pack
from dia_repro.data.photographs import jpeg, photograph, write_photographs
from dia_repro.data.shards import Job, packed_jpeg
from dia_repro.errors import AbsentError
from dia_repro.experiments.names import DataLocation
from tests.helpers import write_folder

CPU = torch.device("cpu")
TRAIN, TEST = 11, 4


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_photographs(tmp_path / "pets", TRAIN, TEST, TRAIN + TEST)
    return tmp_path / "pets"


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "data" / "inspections"


def job(images: Path, *, side: int = 96, skip_damaged: bool = False, workers: int = 2) -> Job:
    data = images.parent / "data"
    source, classes = folder_source(images, data, skip_damaged=skip_damaged)
    return Job(source, classes, images.parent / "pack", side, 90, workers)


@pytest.fixture
def packed(images: Path, memory: Path) -> Path:
    wanted = job(images)
    pack(wanted, memory)
    return wanted.target


def opened(path: Path, memory: Path, size: int = 80) -> StreamedDataset:
    choice = choose_packed(path, size, memory.parent)
    dataset = load(choice.spec, DataLocation(memory.parent, path))
    assert isinstance(dataset, StreamedDataset)
    return dataset


def epoch(
    dataset: StreamedDataset, workers: int, start: int = 0
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    data = batches_of(dataset, "resized-crop-flip", CPU, workers)
    order, variation = (torch.Generator().manual_seed(seed) for seed in (1, 2))
    return list(data.training_batches(4, order, variation, start))


def test_every_image_is_there_reduced_with_its_label_and_name(
    images: Path, packed: Path, memory: Path
) -> None:
    found = open_pack(packed, memory)
    originals = scan(images)
    for split, files in ((found.train, originals.train), (found.test, originals.test)):
        assert split.labels.tolist() == files.labels.tolist()
        for number in range(len(files)):
            with Image.open(files.file(images, number)) as image:
                wanted = image.convert("RGB").resize((128, 96), Image.Resampling.BILINEAR)
            with Image.open(io.BytesIO(split.jpeg(number).tobytes())) as stored:
                assert stored.size == (128, 96)
                difference = np.asarray(stored).astype(int) - np.asarray(wanted)
            assert np.abs(difference).mean() < 6, "compressed again, not another image"
            assert files.paths[number].decode() in split.describe(number)


def test_batches_do_not_depend_on_workers_nor_on_a_resumption(packed: Path, memory: Path) -> None:
    dataset = opened(packed, memory)
    alone, helped, resumed = epoch(dataset, 0), epoch(dataset, 2), epoch(dataset, 2, start=1)
    assert [len(labels) for _, labels in alone] == [4, 4, 3]
    for one, other in zip(alone, helped, strict=True):
        assert all(map(torch.equal, one, other))
    for one, other in zip(alone[1:], resumed, strict=True):
        assert all(map(torch.equal, one, other))


def test_workers_serve_epoch_after_epoch(packed: Path, memory: Path) -> None:
    data = batches_of(opened(packed, memory), "resized-crop-flip", CPU, 2)
    seen = []
    for _ in range(2):
        order, variation = (torch.Generator().manual_seed(seed) for seed in (1, 2))
        next(data.training_batches(4, order, variation))  # and no more of it: an epoch cut short
        order, variation = (torch.Generator().manual_seed(seed) for seed in (1, 2))
        training = list(data.training_batches(4, order, variation))
        seen.append(training + list(data.test_batches(3)))
    for one, other in zip(*seen, strict=True):
        assert all(map(torch.equal, one, other))
    assert [len(labels) for _, labels in seen[0]] == [4, 4, 3, 3, 1]


def test_batches_that_cross_are_refused_not_mixed(packed: Path, memory: Path) -> None:
    data = batches_of(opened(packed, memory), "none", CPU, 0)
    first = data.test_batches(2)
    next(first)
    list(data.test_batches(2))
    with pytest.raises(RuntimeError, match="one after the other"):
        next(first)


def test_large_batches_are_made_of_parts(
    packed: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = opened(packed, memory)
    whole = epoch(dataset, 2)
    monkeypatch.setattr("dia_repro.data.streaming.PART", 3)
    for one, other in zip(whole, epoch(dataset, 2), strict=True):
        assert all(map(torch.equal, one, other))


def test_the_middle_of_a_packed_image_is_the_middle_of_its_original() -> None:
    original = photograph(0)
    file = io.BytesIO()
    original.save(file, "JPEG", quality=95)
    stored = np.frombuffer(packed_jpeg(file, 256, 95, turn=False), np.uint8)
    difference = from_jpeg(stored, 224, None).astype(int) - np.asarray(centred(original, 224))
    assert np.abs(difference).mean() < 5
    assert np.abs(np.roll(difference, 8, axis=0)).mean() < 5


def test_a_crop_is_what_torchs_own_way_of_seeding_draws() -> None:
    from torchvision.transforms import RandomResizedCrop

    image = photograph(0)
    for seed in range(50):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            box = RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])
            mirror = bool(torch.rand(()) < 0.5)
        assert random_crop(image, seed) == (*box, mirror)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_ordinary_jpeg_files_that_are_small_enough_stay_as_they_are(mode: str) -> None:
    file = io.BytesIO()
    photograph(0, 90, 60).convert(mode).save(file, "JPEG", quality=70)
    kept = packed_jpeg(file, 96, 90, turn=True) == file.getvalue()
    assert kept == (mode != "CMYK")
    assert packed_jpeg(file, 48, 90, turn=True) != file.getvalue()


def test_turned_images_are_stored_upright_where_they_are_trained_on_so() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    file = io.BytesIO()
    photograph(0, 90, 60).save(file, "JPEG", exif=exif)
    for turn, size in ((True, (60, 90)), (False, (90, 60))):
        with Image.open(io.BytesIO(packed_jpeg(file, 0, 90, turn=turn))) as stored:
            assert stored.size == size


def test_without_resizing_the_files_own_bytes_are_packed(images: Path, memory: Path) -> None:
    wanted = job(images, side=0)
    manifest, _ = pack(wanted, memory)
    assert manifest.name == "packed:pets-full-q90"
    train = open_pack(wanted.target, memory).train
    for number, path in enumerate(scan(images).train.paths):
        assert train.jpeg(number).tobytes() == (images / path.decode()).read_bytes()
    assert choose_packed(wanted.target, None, memory.parent).spec.image_size == 224


def test_the_identity_is_that_of_the_packed_pixels(
    images: Path, packed: Path, memory: Path, tmp_path: Path
) -> None:
    spec = choose_packed(packed, None, memory.parent).spec
    assert (spec.dataset, spec.classes, spec.image_size) == ("packed:pets-96-q90", 2, 84)
    moved = packed.rename(tmp_path / "elsewhere")
    assert choose_packed(moved, None, memory.parent).spec == spec
    again = replace(job(images), target=tmp_path / "again")
    assert pack(again, memory)[0].content_hash == spec.content_hash
    for change in ({"side": 100}, {"quality": 80}):
        other = replace(again, target=tmp_path / f"other{change}", **change)  # type: ignore[arg-type]
        assert pack(other, memory)[0].content_hash != spec.content_hash
    # The same bytes under another label are another experiment, too.
    (images / "train" / "made-up0" / "0.jpg").rename(images / "train" / "made-up1" / "0.jpg")
    relabelled = replace(job(images), target=tmp_path / "relabelled")
    assert pack(relabelled, memory)[0].content_hash != spec.content_hash


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
    with pytest.raises(DataError, match=r"3.jpg cannot be decoded any more"):
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


def test_made_up_photographs_are_of_the_usual_size_in_bytes() -> None:
    sizes = [len(jpeg(number)) for number in range(5)]
    assert all(100e3 < size < 120e3 for size in sizes)
    assert len(set(sizes)) > 1
