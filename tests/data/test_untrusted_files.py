"""Files that are not what their suffixes say, pictures that are not used, and repeated ones."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

from dia_repro.data import DataError
from dia_repro.data.batches import batches_of
from dia_repro.data.dataset import StreamedDataset
from dia_repro.data.download import md5_of
from dia_repro.data.image_folder import sample, scan
from dia_repro.data.inspection import inspect
from dia_repro.data.opening import MOST_BYTES, MOST_PIXELS, UnfitImageError, open_rgb, read_file
from dia_repro.data.sources.packed import MANIFEST, open_pack
from tests.helpers import choose, cli, write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "mine", {"train": 3, "test": 2})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def test_a_file_of_terabytes_is_damaged_and_not_read(folder: Path, root: Path) -> None:
    sparse(folder / "train" / "cat" / "x.png", 4 << 40)
    inspection = inspect(scan(folder), root)
    assert inspection.damaged == ("train/cat/x.png",)
    assert inspection.reasons == ("4,398,046,511,104 bytes, more than 375 million",)


def test_the_largest_raw_image_is_no_larger_than_a_file_may_be(tmp_path: Path) -> None:
    assert MOST_BYTES > 4 * MOST_PIXELS
    Image.new("RGBA", (2000, 1000)).save(tmp_path / "raw.tif")
    read = read_file(tmp_path / "raw.tif")
    assert 4 * 2_000_000 <= len(read) < 4 * 2_000_000 + (MOST_BYTES - 4 * MOST_PIXELS)


def test_postscript_starts_no_program(
    folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a, **k: started.append(a))
    Image.new("RGB", (12, 12)).save(folder / "train" / "cat" / "x.png", "EPS")
    inspection = inspect(scan(folder), root)
    assert (inspection.damaged, inspection.reasons) == (("train/cat/x.png",), ("not an image",))
    assert started == []


@pytest.mark.parametrize("name", ["JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF"])
def test_usual_formats_are_read_whatever_the_suffix(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (12, 12), "red").save(tmp_path / "x.jpg", name)
    assert open_rgb((tmp_path / "x.jpg").read_bytes())[0].size == (12, 12)


def test_pictures_of_several_frames_by_a_camera_are_jpeg_files(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (12, 12), "red"), Image.new("RGB", (12, 12))
    first.save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=[second])
    assert open_rgb((tmp_path / "x.jpg").read_bytes())[0].getpixel((0, 0)) == (254, 0, 0)


@pytest.mark.parametrize("endless", ["/proc/kmsg", "/proc/self/mem"])
def test_a_link_to_a_file_of_the_kernel_does_not_block(
    folder: Path, root: Path, endless: str
) -> None:
    if not os.access(endless, os.R_OK):
        pytest.skip(f"needs a user who may read {endless}")
    (folder / "train" / "cat" / "x.png").symlink_to(endless)
    assert inspect(scan(folder), root).damaged == ("train/cat/x.png",)


def test_a_pipe_in_place_of_an_image_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(UnfitImageError, match="not a regular file"):
        read_file(tmp_path / "x.png")


def test_an_image_replaced_by_a_pipe_is_not_waited_for(folder: Path, root: Path) -> None:
    found = scan(folder)
    dataset = StreamedDataset("folder:mine", found.train, found.test, 96, "")
    for path in (folder / "test").rglob("*.png"):
        path.unlink()
        os.mkfifo(path)
    with pytest.raises(DataError, match=r"0.png has changed since the images were listed"):
        inspect(found, root)
    with pytest.raises(DataError, match=r"0.png has changed since the run began"):
        list(batches_of(dataset, "none", torch.device("cpu"), 0).test_batches(4))


def test_a_sample_of_a_folder_with_pipes_is_of_its_images(folder: Path) -> None:
    for number in range(20):
        os.mkfifo(folder / "train" / "cat" / f"pipe{number}.png")
    found = sample(folder, 100)
    assert sorted(map(found.describe, range(len(found)))) == sorted(
        map(str, (folder / "train").glob("*/?.png"))
    )


def test_a_pack_description_of_terabytes_is_not_read(tmp_path: Path) -> None:
    sparse(tmp_path / MANIFEST, 4 << 40)
    with pytest.raises(DataError, match=r"pack.json is damaged"):
        open_pack(tmp_path)


def test_a_cifar_file_of_terabytes_is_not_read(tmp_path: Path) -> None:
    sparse(tmp_path / "data_batch_1", 4 << 40)
    assert md5_of(tmp_path / "data_batch_1") == ""


def test_a_note_of_terabytes_is_not_read(folder: Path, root: Path) -> None:
    expected = inspect(scan(folder), root)
    (note,) = root.iterdir()
    sparse(note, 4 << 40)
    assert inspect(scan(folder), root) == expected


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JFIF"])
def test_jpeg_files_of_rarer_suffixes_are_images(folder: Path, suffix: str) -> None:
    Image.new("RGB", (12, 12)).save(folder / "train" / "cat" / f"x{suffix}", "JPEG")
    assert len(scan(folder).train) == 7


def test_picture_files_that_are_not_used_are_counted_by_suffix(folder: Path, root: Path) -> None:
    for name in ("a.gif", "b.GIF", "c.heic", "notes.txt", ".hidden.gif"):
        (folder / "train" / "cat" / name).touch()
    (folder / "test" / "dog" / "d.avif").touch()
    said: list[str] = []
    choose(folder, None, root, remark=said.append)
    (line,) = said
    assert "not used, by suffix: 1 .avif, 2 .gif, 1 .heic; convert them to .png or .jpg" in line


def test_images_in_both_parts_and_in_two_classes_are_told(folder: Path, root: Path) -> None:
    train, test = folder / "train", folder / "test"
    shutil.copy(train / "cat" / "0.png", test / "cat" / "8.png")
    with Image.open(train / "dog" / "2.png") as image:  # other bytes, the same pixels
        image.save(test / "dog" / "9.bmp")
    shutil.copy(train / "cat" / "1.png", train / "dog" / "7.png")
    inspection = inspect(scan(folder), root)
    assert inspection.in_both == (
        ("train/cat/0.png", "test/cat/8.png"),
        ("train/dog/2.png", "test/dog/9.bmp"),
    )
    assert inspection.in_two == (("train/cat/1.png", "train/dog/7.png"),)
    assert inspect(scan(folder), root) == inspection  # as remembered
    said: list[str] = []
    choose(folder, None, root, remark=said.append)
    assert said == inspection.remarks
    assert "2 (train/cat/0.png = test/cat/8.png, train/dog/2.png = test/dog/9.bmp)" in said[0]
    assert "1 (train/cat/1.png = train/dog/7.png)" in said[1]


def test_images_repeated_within_a_class_or_damaged_are_not_told(folder: Path, root: Path) -> None:
    shutil.copy(folder / "train" / "cat" / "0.png", folder / "train" / "cat" / "8.png")
    for part in ("train/cat", "test/dog"):
        (folder / part / "x.png").write_text("no image")
    inspection = inspect(scan(folder), root)
    assert (inspection.in_both, inspection.in_two) == ((), ())
    assert len(inspection.damaged) == 2


def test_an_image_turned_by_its_camera_is_the_same_picture(folder: Path, root: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (12, 20, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(pixels).save(folder / "train" / "cat" / "x.png")
    Image.fromarray(pixels[::-1, ::-1]).save(folder / "test" / "cat" / "y.png", exif=exif)
    assert inspect(scan(folder), root).in_both == (("train/cat/x.png", "test/cat/y.png"),)


def test_check_tells_of_unused_and_repeated_images(folder: Path, tmp_path: Path) -> None:
    (folder / "train" / "cat" / "a.gif").touch()
    shutil.copy(folder / "train" / "cat" / "0.png", folder / "test" / "dog" / "8.png")
    for _ in range(2):  # the second time from what is remembered
        result = cli("data", "check", f"folder:{folder}", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert result.stdout == ""
        text = " ".join(result.stderr.split())
        assert "by suffix: 1 .gif; convert" in text
        assert "pixels of a training image: 1 (train/cat/0.png = test/dog/8.png)" in text
        assert "of another class: 1 (train/cat/0.png = test/dog/8.png)" in text
    (note,) = (tmp_path / "data" / "inspections").iterdir()
    assert json.loads(note.read_text())["format"] == 6
