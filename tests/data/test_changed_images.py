"""Images that are replaced while they are trained on: no result is recorded under the old hash."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.photographs import write_photographs
from dia_repro.data import DataError, inspection
from dia_repro.data.batches import batches_of
from dia_repro.data.dataset import Dataset, StreamedDataset
from dia_repro.data.image_folder import Files, ImageFolder, scan
from dia_repro.data.inspection import inspect
from dia_repro.data.packing import pack
from dia_repro.data.sources.folder import load
from dia_repro.data.sources.packed import open_pack
from dia_repro.experiments.names import DataLocation
from tests.data.packs import job, opened
from tests.helpers import choose, write_folder

CPU = torch.device("cpu")
NAME = Path("train", "dog", "1.bmp")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "mine", {"train": 3, "test": 2}, suffix="bmp")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def loaded(folder: Path, root: Path, size: int) -> Dataset | StreamedDataset:
    choice = choose(folder, size, root)
    return load(choice.spec, DataLocation(root, folder))


def epoch(dataset: StreamedDataset, workers: int = 0) -> torch.Tensor:
    data = batches_of(dataset, "none", CPU, workers)
    order, variation = (torch.Generator().manual_seed(seed) for seed in (1, 2))
    return torch.cat([images for images, _ in data.training_batches(4, order, variation)])


def overwrite(path: Path) -> None:
    """Another image of the same size and time, in the same file."""
    before = path.stat()
    Image.new("RGB", (12, 12)).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path) -> None:
    """Another file of the same size and time, as `rsync -t` leaves it."""
    other = path.with_name(".other.bmp")
    shutil.copy2(path, other)
    overwrite(other)
    other.replace(path)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("change", [overwrite, replace])
def test_a_streamed_image_that_changes_ends_the_run(
    folder: Path, root: Path, change: Callable[[Path], None], workers: int
) -> None:
    dataset = loaded(folder, root, 96)
    assert isinstance(dataset, StreamedDataset)
    epoch(dataset, workers)
    change(folder / NAME)
    with pytest.raises(DataError, match=r"\.bmp has changed since the run began") as caught:
        epoch(dataset, workers)
    assert "\n" not in str(caught.value)


def test_classes_that_change_places_end_the_run(folder: Path, root: Path) -> None:
    time.sleep(0.02)  # or all files could have the same times
    for path in (folder / NAME).parent.iterdir():
        overwrite(path)
    dataset = loaded(folder, root, 96)
    assert isinstance(dataset, StreamedDataset)
    dog, cat, other = (folder / "train" / name for name in ("dog", "cat", "other"))
    for moved, name in ((dog, other), (cat, dog), (other, cat)):
        moved.rename(name)
    with pytest.raises(DataError, match=r"\.bmp has changed since the run began"):
        epoch(dataset)


def test_facts_stay_with_their_images_in_parts_of_a_split(folder: Path, root: Path) -> None:
    (folder / "train" / "cat" / "0.bmp").write_text("no image")
    choice = choose(folder, 96, root, skip_damaged=True)
    dataset = load(choice.spec, DataLocation(root, folder, skip_damaged=True))
    assert isinstance(dataset, StreamedDataset)
    few = dataset.with_test_images(torch.tensor([2, 0]).numpy())
    assert len(epoch(few)) == 5
    data = batches_of(few, "none", CPU, 0)
    (batch,) = data.test_batches(4)
    assert batch[1].tolist() == [1, 0]
    overwrite(folder / "test" / "dog" / "1.bmp")  # which is not among them
    assert len(list(data.test_batches(4))) == 1
    overwrite(folder / "test" / "dog" / "0.bmp")
    with pytest.raises(DataError, match=r"test/dog/0.bmp has changed"):
        list(data.test_batches(4))


def test_an_image_that_changes_while_all_are_inspected_is_named(folder: Path, root: Path) -> None:
    found = scan(folder)
    overwrite(folder / NAME)
    with pytest.raises(DataError, match=r"dog/1.bmp has changed since the images were listed"):
        inspect(found, root)
    assert not list(root.glob("*"))


def test_an_image_that_changes_before_it_is_decoded_into_memory_is_named(
    folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = choose(folder, 12, root)

    def sound_and_changed(*arguments: object, **options: bool) -> ImageFolder:
        overwrite(folder / NAME)
        return inspection.sound(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("dia_repro.data.sources.folder.sound", sound_and_changed)
    with pytest.raises(DataError, match=r"dog/1.bmp has changed since the run began"):
        load(choice.spec, DataLocation(root, folder))


def test_another_inode_alone_is_no_change(folder: Path, root: Path) -> None:
    """File systems in user space give a file a new one each time the kernel forgets it."""
    dataset = loaded(folder, root, 96)
    assert isinstance(dataset, StreamedDataset)
    assert isinstance(dataset.train, Files)
    dataset.train.facts[:, 1] += 1
    assert len(epoch(dataset)) == 6


def flip_a_byte(path: Path, position: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * position)] ^= 255
    with path.open("r+b") as file:
        file.write(content)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_packed_image_that_changes_ends_the_run(tmp_path: Path, workers: int) -> None:
    write_photographs(tmp_path / "pets", 8, 4, 12)
    wanted = job(tmp_path / "pets")
    pack(wanted)
    dataset = opened(wanted.target)
    epoch(dataset, workers)
    flip_a_byte(wanted.target / "images", 0.4)
    damaged = r"train/\S+ in .*/images is damaged: its bytes are not those that were packed"
    with pytest.raises(DataError, match=damaged) as caught:
        epoch(dataset, workers)
    assert "\n" not in str(caught.value)


def test_packed_images_that_are_cut_short_end_the_run(tmp_path: Path) -> None:
    """No process is killed, as where the file were mapped into memory."""
    write_photographs(tmp_path / "pets", 8, 4, 12)
    wanted = job(tmp_path / "pets")
    pack(wanted)
    dataset = opened(wanted.target)
    os.truncate(wanted.target / "images", 100)
    with pytest.raises(DataError, match="images is damaged: its bytes are not those"):
        epoch(dataset, 2)
    with pytest.raises(DataError, match="images is damaged: it has 100 bytes instead of"):
        open_pack(wanted.target)
