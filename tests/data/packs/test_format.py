"""What goes into a pack comes out, in the same batches."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from benchmarks.photographs import jpeg, photograph
from dia_repro.data.batches import batches_of
from dia_repro.data.dataset import StreamedDataset
from dia_repro.data.decoding import centred, packed_pixels, random_crop
from dia_repro.data.image_folder import scan
from dia_repro.data.packing import pack, packed_jpeg
from dia_repro.data.registry import DataError
from dia_repro.data.sources.packed import MANIFEST, open_pack
from tests.data.packs import CPU, chosen, job, opened


def epoch(
    dataset: StreamedDataset, workers: int, start: int = 0
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    data = batches_of(dataset, "resized-crop-flip", CPU, workers)
    order, variation = (torch.Generator().manual_seed(seed) for seed in (1, 2))
    return list(data.training_batches(4, order, variation, start))


def test_every_image_is_there_reduced_with_its_label_and_name(images: Path, packed: Path) -> None:
    found = open_pack(packed)
    originals = scan(images)
    for split, files in ((found.train, originals.train), (found.test, originals.test)):
        assert split.labels.tolist() == files.labels.tolist()
        for number in range(len(files)):
            with Image.open(files.file(number)) as image:
                wanted = image.convert("RGB").resize((128, 96), Image.Resampling.BILINEAR)
            with Image.open(io.BytesIO(split.read(number))) as stored:
                assert stored.size == (128, 96)
                difference = np.asarray(stored).astype(int) - np.asarray(wanted)
            assert np.abs(difference).mean() < 6, "compressed again, not another image"
            assert files.paths[number].decode() in split.describe(number)


def test_batches_do_not_depend_on_workers_nor_on_a_resumption(packed: Path) -> None:
    dataset = opened(packed)
    alone, helped, resumed = epoch(dataset, 0), epoch(dataset, 2), epoch(dataset, 2, start=1)
    assert [len(labels) for _, labels in alone] == [4, 4, 3]
    for batch, other in zip(alone, helped, strict=True):
        assert all(map(torch.equal, batch, other))
    for batch, other in zip(alone[1:], resumed, strict=True):
        assert all(map(torch.equal, batch, other))


def test_workers_serve_epoch_after_epoch(packed: Path) -> None:
    data = batches_of(opened(packed), "resized-crop-flip", CPU, 2)
    seen = []
    for _ in range(2):
        order, variation = (torch.Generator().manual_seed(seed) for seed in (1, 2))
        next(data.training_batches(4, order, variation))  # and no more of it: an epoch cut short
        order, variation = (torch.Generator().manual_seed(seed) for seed in (1, 2))
        training = list(data.training_batches(4, order, variation))
        seen.append(training + list(data.test_batches(3)))
    for batch, other in zip(*seen, strict=True):
        assert all(map(torch.equal, batch, other))
    assert [len(labels) for _, labels in seen[0]] == [4, 4, 3, 3, 1]


def test_batches_that_cross_are_refused_not_mixed(packed: Path) -> None:
    data = batches_of(opened(packed), "none", CPU, 0)
    first = data.test_batches(2)
    next(first)
    list(data.test_batches(2))
    with pytest.raises(RuntimeError, match="one after the other"):
        next(first)


def test_large_batches_are_made_of_parts(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = opened(packed)
    whole = epoch(dataset, 2)
    monkeypatch.setattr("dia_repro.data.streaming.PART", 3)
    for batch, other in zip(whole, epoch(dataset, 2), strict=True):
        assert all(map(torch.equal, batch, other))


def test_the_middle_of_a_packed_image_is_the_middle_of_its_original() -> None:
    original = photograph(0)
    file = io.BytesIO()
    original.save(file, "JPEG", quality=95)
    stored = Image.open(io.BytesIO(packed_jpeg(file.getvalue(), 256, 95, turn=False)))
    difference = packed_pixels(stored, 224, None).astype(int) - np.asarray(centred(original, 224))
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
    kept = packed_jpeg(file.getvalue(), 96, 90, turn=True) == file.getvalue()
    assert kept == (mode != "CMYK")
    assert packed_jpeg(file.getvalue(), 48, 90, turn=True) != file.getvalue()


def test_turned_images_are_stored_upright_where_they_are_trained_on_so() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    file = io.BytesIO()
    photograph(0, 90, 60).save(file, "JPEG", exif=exif)
    for turn, size in ((True, (60, 90)), (False, (90, 60))):
        with Image.open(io.BytesIO(packed_jpeg(file.getvalue(), 0, 90, turn=turn))) as stored:
            assert stored.size == size


def test_without_resizing_the_files_own_bytes_are_packed(images: Path) -> None:
    wanted = job(images, side=0)
    made, _ = pack(wanted)
    assert made.manifest.name == "packed:pets-full-q90"
    train = open_pack(wanted.target).train
    for number, path in enumerate(scan(images).train.paths):
        assert train.read(number) == (images / path.decode()).read_bytes()
    assert chosen(wanted.target).spec.image_size == 224


def test_the_identity_is_that_of_the_packed_pixels(
    images: Path, packed: Path, tmp_path: Path
) -> None:
    spec = chosen(packed).spec
    assert (spec.dataset, spec.classes, spec.image_size) == ("packed:pets-96-q90", 2, 84)
    moved = packed.rename(tmp_path / "elsewhere")
    assert chosen(moved).spec == spec
    again = replace(job(images), target=tmp_path / "again")
    assert pack(again)[0].manifest.content_hash == spec.content_hash
    for change in ({"side": 100}, {"quality": 80}):
        other = replace(again, target=tmp_path / f"other{change}", **change)  # type: ignore[arg-type]
        assert pack(other)[0].manifest.content_hash != spec.content_hash
    # The same bytes under another label are another experiment, too.
    (images / "train" / "synthetic0" / "0.jpg").rename(images / "train" / "synthetic1" / "0.jpg")
    relabelled = replace(job(images), target=tmp_path / "relabelled")
    assert pack(relabelled)[0].manifest.content_hash != spec.content_hash


def test_made_up_photographs_are_of_the_usual_size_in_bytes() -> None:
    sizes = [len(jpeg(number)) for number in range(5)]
    assert all(100e3 < size < 120e3 for size in sizes)
    assert len(set(sizes)) > 1


def test_a_source_of_two_lines_is_refused(packed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(packed, copy)
    manifest = open_pack(copy).manifest
    (copy / MANIFEST).write_bytes(manifest.model_copy(update={"source": "a\nb"}).to_json())
    with pytest.raises(DataError, match=r"named 'packed:a\\nb-96-q90': rename"):
        chosen(copy)
