"""Images in class folders: a user's own, and ImageNet, sound and damaged."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dia_repro.data import DataError, known_data, load
from dia_repro.data.batches import batches_of
from dia_repro.data.dataset import WHOLE, Dataset, StreamedDataset
from dia_repro.data.decoded import KEPT
from dia_repro.data.decoding import augmented, centred
from dia_repro.data.image_folder import scan
from dia_repro.data.inspection import Inspection, inspect
from dia_repro.data.sources import imagenet
from dia_repro.data.streaming import MEAN, STD
from dia_repro.experiments.names import DataLocation
from tests.helpers import choose, write_folder

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "mine", {"train": 6, "test": 3})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def loaded(folder: Path, root: Path, size: int | None = None) -> Dataset | StreamedDataset:
    choice = choose(folder, size, root)
    return load(choice.spec, DataLocation(root, choice.folder))


def test_a_folder_says_what_it_is(folder: Path, root: Path) -> None:
    choice = choose(folder, None, root)
    assert choice.spec.dataset == "folder:mine"
    assert (choice.spec.classes, choice.spec.image_size) == (2, 12)
    assert choice.spec.augmentation == "crop4-flip"
    assert (choice.training_images, choice.folder) == (12, folder)
    assert choose(folder, 128, root).spec.augmentation == "resized-crop-flip"


def test_images_of_different_sizes_are_brought_to_32_pixels(folder: Path, root: Path) -> None:
    Image.new("RGB", (40, 30)).save(folder / "train" / "cat" / "wide.png")
    choice = choose(folder, None, root)
    assert choice.spec.image_size == 32
    dataset = load(choice.spec, DataLocation(root, folder))
    assert isinstance(dataset, Dataset)
    assert dataset.train.pixels.shape == (13, 3, 32, 32)


def test_small_images_are_held_pixel_by_pixel(folder: Path, root: Path) -> None:
    dataset = loaded(folder, root)
    assert isinstance(dataset, Dataset)
    files = scan(folder).train
    for number in (0, 7):
        with Image.open(folder / files.paths[number].decode()) as image:
            expected = np.asarray(image.convert("RGB"))
        assert np.array_equal(dataset.train.pixels[number].permute(1, 2, 0).numpy(), expected)
    assert dataset.train.labels.tolist() == [0] * 6 + [1] * 6
    scaled = dataset.train.pixels.double() / 255
    assert dataset.mean == pytest.approx(scaled.mean((0, 2, 3)).tolist())
    assert dataset.std == pytest.approx(scaled.std((0, 2, 3), correction=0).tolist())


def test_the_hash_follows_names_and_bytes_alone(folder: Path, root: Path, tmp_path: Path) -> None:
    before = choose(folder, None, root).spec
    elsewhere = tmp_path / "else" / "mine"
    shutil.copytree(folder, elsewhere, copy_function=shutil.copyfile)
    assert choose(elsewhere, None, root).spec == before
    (elsewhere / "train" / "dog" / "3.png").rename(elsewhere / "train" / "dog" / "33.png")
    assert choose(elsewhere, None, root).spec.content_hash != before.content_hash
    Image.new("RGB", (12, 12)).save(folder / "train" / "cat" / "0.png")
    assert choose(folder, None, root).spec.content_hash != before.content_hash


def test_images_that_changed_since_are_refused(folder: Path, root: Path) -> None:
    choice = choose(folder, None, root)
    (folder / "train" / "cat" / "0.png").unlink()
    with pytest.raises(DataError, match="have changed"):
        load(choice.spec, DataLocation(root, folder))


def test_a_second_look_is_remembered_until_a_file_changes(folder: Path, root: Path) -> None:
    first = inspect(scan(folder), root)
    (note,) = root.iterdir()
    note.write_text(note.read_text().replace(first.content_hash, "0" * 64))
    assert inspect(scan(folder), root).content_hash == "0" * 64
    note.write_text("not what was written")
    assert inspect(scan(folder), root) == first
    truncate(folder / "test" / "dog" / "1.png")
    assert inspect(scan(folder), root).damaged == ("test/dog/1.png",)


def no_decoding(*_: object) -> np.ndarray:
    raise AssertionError("decoded again")


def test_pixels_are_kept_until_an_image_changes(
    folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other_side = loaded(folder, root), loaded(folder, root, 16)
    with monkeypatch.context() as patched:
        patched.setattr("dia_repro.data.sources.folder._decode", no_decoding)
        for size, before in ((None, first), (16, other_side)):
            again = loaded(folder, root, size)
            assert isinstance(before, Dataset)
            assert isinstance(again, Dataset)
            assert torch.equal(again.train.pixels, before.train.pixels)
            assert torch.equal(again.test.labels, before.test.labels)
            assert (again.digest(), again.mean) == (before.digest(), before.mean)
    Image.new("RGB", (12, 12), "red").save(folder / "train" / "cat" / "0.png")
    changed = loaded(folder, root)
    assert isinstance(changed, Dataset)
    assert isinstance(first, Dataset)
    assert not torch.equal(changed.train.pixels, first.train.pixels)
    assert len(list((root / KEPT).iterdir())) == 2


@pytest.mark.parametrize("harm", ["a byte", "half", "a folder", "another version"])
def test_kept_pixels_that_are_damaged_or_old_are_decoded_again(
    harm: str, folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = loaded(folder, root)
    (kept,) = (root / KEPT).iterdir()
    content = bytearray(kept.read_bytes())
    match harm:
        case "a byte":
            content[len(content) // 2] ^= 1
            kept.write_bytes(content)
        case "half":
            del content[len(content) // 2 :]
            kept.write_bytes(content)
        case "a folder":
            kept.unlink()
            kept.mkdir()
        case _:
            monkeypatch.setattr("dia_repro.data.decoded.decoders", lambda: "another decoder")
    again = loaded(folder, root)
    assert isinstance(first, Dataset)
    assert isinstance(again, Dataset)
    assert torch.equal(again.train.pixels, first.train.pixels)
    assert kept.is_dir() or kept.read_bytes() != bytes(content)


def test_damaged_images_are_named_and_refused_unless_told_otherwise(
    folder: Path, root: Path
) -> None:
    truncate(folder / "train" / "cat" / "2.png")
    (folder / "test" / "dog" / "0.png").write_text("not an image")
    with pytest.raises(DataError, match=r"2 damaged .*train/cat/2.png .*, test/dog/0.png"):
        choose(folder, None, root)
    kept = choose(folder, None, root, skip_damaged=True)
    assert kept.training_images == 11
    dataset = load(kept.spec, DataLocation(root, folder, skip_damaged=True))
    assert (len(dataset.train), len(dataset.test)) == (11, 5)
    for name in ("train/cat/2.png", "test/dog/0.png"):
        (folder / name).unlink()
    assert choose(folder, None, root).spec == kept.spec


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    ("damage", "where", "words"),
    [
        (shutil.rmtree, ".", "no folder"),
        (shutil.rmtree, "test", "needs train/CLASS/ and test/CLASS/"),
        (shutil.rmtree, "train/cat", "a class that train/ lacks: cat"),
        (empty, "train/cat", "cat"),
        (empty, "test", "not a folder of image folders"),
    ],
)
def test_a_folder_laid_out_otherwise_is_refused_in_a_sentence(
    folder: Path, root: Path, damage: Callable[[Path], None], where: str, words: str
) -> None:
    damage(folder / where)
    with pytest.raises(DataError, match=words) as caught:
        choose(folder, None, root)
    assert "\n" not in str(caught.value)


def test_val_serves_where_there_is_no_test(tmp_path: Path, root: Path) -> None:
    folder = write_folder(tmp_path / "other", {"train": 2, "val": 1})
    assert len(loaded(folder, root).test) == 2


@pytest.fixture
def streamed(folder: Path, root: Path) -> StreamedDataset:
    dataset = loaded(folder, root, size=96)
    assert isinstance(dataset, StreamedDataset)
    return dataset


def epoch(
    dataset: StreamedDataset,
    workers: int,
    *,
    start: int = 0,
    augmentation: str | None = None,
    part: slice = WHOLE,
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    data = batches_of(dataset, augmentation or "resized-crop-flip", CPU, workers, part)
    order, variation = (torch.Generator().manual_seed(seed) for seed in (1, 2))
    return list(data.training_batches(5, order, variation, start))


def test_streamed_batches_do_not_depend_on_workers_nor_on_a_resumption(
    streamed: StreamedDataset,
) -> None:
    alone, helped, resumed = (
        epoch(streamed, 0),
        epoch(streamed, 2),
        epoch(streamed, 2, start=1),
    )
    assert [len(labels) for _, labels in alone] == [5, 5, 2]
    for batch, other in zip(alone, helped, strict=True):
        assert all(map(torch.equal, batch, other))
    for batch, other in zip(alone[1:], resumed, strict=True):
        assert all(map(torch.equal, batch, other))


def test_parts_of_streamed_batches_are_the_whole_ones(streamed: StreamedDataset) -> None:
    # Twelve images in batches of five: the last one has nothing for the third process.
    parts = [
        epoch(streamed, workers, part=slice(rank, None, 3))
        for rank, workers in enumerate((0, 2, 0))
    ]
    for whole, *its_parts in zip(epoch(streamed, 0), *parts, strict=True):
        for rank, part in enumerate(its_parts):
            assert torch.equal(part[0], whole[0][rank::3])
            assert torch.equal(part[1], whole[1][rank::3])
    assert len(parts[2][-1][1]) == 0


def test_streamed_images_are_varied_one_by_one_and_normalised(streamed: StreamedDataset) -> None:
    plain = torch.cat([images for images, _ in epoch(streamed, 0, augmentation="none")])
    random = torch.cat([images for images, _ in epoch(streamed, 0)])
    assert plain.shape == (12, 3, 96, 96)
    assert all(not torch.equal(a, b) for a, b in zip(plain, random, strict=True))
    restored = plain * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    assert restored.min() >= -1e-6
    assert restored.max() <= 1 + 1e-6
    assert (restored * 255).round().sub(restored * 255).abs().max() < 1e-3


def test_streaming_leaves_torchs_random_state_alone(streamed: StreamedDataset) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    epoch(streamed, 0)
    assert torch.equal(torch.rand(1), expected)


def test_evaluation_takes_the_middle_of_the_resized_image() -> None:
    """ImageNet's way: shorter side 256, the middle 224×224."""
    coordinates = np.zeros((512, 1024, 3), dtype=np.uint8)
    coordinates[..., 0] = np.arange(1024) // 4
    coordinates[..., 1] = np.arange(512)[:, None] // 2
    middle = np.asarray(centred(Image.fromarray(coordinates), 224)).astype(int)
    assert middle.shape == (224, 224, 3)
    # Resized to 512×256: columns 144 to 367 and rows 16 to 239 are kept.
    assert abs(middle[:, 0, 0] - 72).max() <= 1
    assert abs(middle[:, -1, 0] - 183).max() <= 1
    assert abs(middle[0, :, 1] - 16).max() <= 1
    assert abs(middle[-1, :, 1] - 239).max() <= 1


def test_training_crops_8_to_100_per_cent_and_mirrors_half() -> None:
    ramp = np.zeros((200, 200, 3), dtype=np.uint8)
    ramp[..., 0] = np.arange(200)
    crops = [
        np.asarray(augmented(Image.fromarray(ramp), 32, seed)).astype(int) for seed in range(200)
    ]
    widths = np.array([abs(c[16, -1, 0] - c[16, 0, 0]) for c in crops])
    mirrored = np.mean([c[16, 0, 0] > c[16, -1, 0] for c in crops])
    assert 0.4 < mirrored < 0.6
    assert widths.min() < 90
    assert widths.max() > 170
    same = np.asarray(augmented(Image.fromarray(ramp), 32, 7))
    assert np.array_equal(same, crops[7])


def test_an_image_that_breaks_later_is_named(folder: Path, streamed: StreamedDataset) -> None:
    truncate(folder / "train" / "dog" / "4.png")
    with pytest.raises(DataError, match=r"train/dog/4.png has changed since the run began"):
        epoch(streamed, 0)


@pytest.fixture
def small_imagenet(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes in ImageNet's layout, which stand in for a thousand."""
    for name, count in (("CLASSES", 2), ("TRAINING_IMAGES", 8), ("TEST_IMAGES", 4)):
        monkeypatch.setattr(imagenet, name, count)
    return write_folder(root / "imagenet", {"train": 4, "val": 2}, side=300, suffix="JPEG")


@pytest.mark.usefixtures("small_imagenet")
def test_imagenet_is_streamed_at_224_pixels(root: Path) -> None:
    dataset = load(known_data("imagenet").spec, DataLocation(root))
    assert (len(dataset.train), len(dataset.test)) == (8, 4)
    data = batches_of(dataset, "resized-crop-flip", CPU, 0)
    (batch,) = data.test_batches(8)
    assert batch[0].shape == (4, 3, 224, 224)
    assert batch[1].tolist() == [0, 0, 1, 1]


def test_a_part_of_imagenet_is_not_imagenet(small_imagenet: Path, root: Path) -> None:
    (small_imagenet / "train" / "cat" / "0.JPEG").unlink()
    with pytest.raises(DataError, match=r"7 training .* instead of .* 8 training .*folder:"):
        load(known_data("imagenet").spec, DataLocation(root))


def test_damaged_imagenet_is_refused(small_imagenet: Path, root: Path) -> None:
    truncate(small_imagenet / "val" / "dog" / "1.JPEG")
    with pytest.raises(DataError, match=r"1 damaged .*val/dog/1.JPEG"):
        load(known_data("imagenet").spec, DataLocation(root))


def test_missing_imagenet_says_where_it_should_be(root: Path) -> None:
    with pytest.raises(DataError, match=r"data/imagenet: put its train/ and val/ there"):
        load(known_data("imagenet").spec, DataLocation(root))


def test_a_side_is_known_only_where_all_agree(folder: Path, root: Path) -> None:
    assert inspect(scan(folder), root).side == 12
    Image.new("L", (12, 11)).save(folder / "test" / "cat" / "odd.png")
    assert inspect(scan(folder), root) == Inspection(
        content_hash=inspect(scan(folder), root / "other").content_hash,
        damaged=(),
        reasons=(),
        side=None,
    )


def test_a_very_long_image_is_cut_before_it_is_enlarged(folder: Path, root: Path) -> None:
    Image.new("RGB", (1, 30_000)).save(folder / "train" / "cat" / "long.png")
    dataset = loaded(folder, root)
    assert isinstance(dataset, Dataset)
    assert dataset.train.pixels.shape == (13, 3, 32, 32)


def test_sixteen_bits_a_pixel_are_refused(folder: Path, root: Path) -> None:
    Image.fromarray(np.full((12, 12), 40_000, np.uint16)).save(folder / "train" / "cat" / "x.png")
    with pytest.raises(DataError, match=r"train/cat/x.png"):
        choose(folder, None, root)


def test_files_of_the_same_names_sizes_and_times_are_not_taken_for_each_other(
    tmp_path: Path, root: Path
) -> None:
    hashes = set()
    for number, place in enumerate("ab"):
        folder = write_folder(tmp_path / place / "pets", {"train": 1, "test": 1}, suffix="bmp")
        for path in sorted(folder.rglob("*.bmp")):
            Image.new("RGB", (12, 12), (number, 0, 0)).save(path)
            os.utime(path, (0, 0))
        hashes.add(choose(folder, None, root).spec.content_hash)
    assert len(hashes) == 2
