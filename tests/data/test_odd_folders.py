"""Folders as people have them: links, hidden and unreadable things, images that are none."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from dia_repro.data import DataError, known_data, load
from dia_repro.data.batches import batches_of
from dia_repro.data.dataset import Dataset, StreamedDataset
from dia_repro.data.decoding import centred
from dia_repro.data.image_folder import scan
from dia_repro.data.inspection import inspect
from dia_repro.data.opening import MOST_PIXELS, TURNS, open_rgb, upright
from dia_repro.data.sources import imagenet
from dia_repro.data.sources.folder import middle
from dia_repro.experiments.names import DataLocation
from tests.helpers import choose, clean_environment, write_folder

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "mine", {"train": 3, "test": 2})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def names(folder: Path) -> list[str]:
    return scan(folder).images.names


def test_links_that_lead_back_multiply_nothing(folder: Path) -> None:
    before = names(folder)
    (folder / "train" / "cat" / "again").symlink_to("..")
    (folder / "train" / "cat" / "itself").symlink_to(".")
    (folder / "train" / "dog" / "all").symlink_to(folder)
    (folder / "train" / "whole").symlink_to("..")
    assert names(folder) == before


def test_a_folder_that_two_links_lead_to_counts_once(folder: Path, tmp_path: Path) -> None:
    before = names(folder)
    more = tmp_path / "more"
    more.mkdir()
    Image.new("RGB", (12, 12)).save(more / "a.png")
    for name in ("one", "two"):
        (folder / "train" / "cat" / name).symlink_to(more)
    (more / "back").symlink_to(folder / "train" / "cat")
    assert names(folder) == sorted([*before, "train/cat/one/a.png"], key=first_train)


def first_train(name: str) -> tuple[bool, str, str]:
    place, _, file = name.rpartition("/")
    return not name.startswith("train"), place, file


def test_class_folders_may_be_links(folder: Path, tmp_path: Path) -> None:
    before = names(folder)
    (folder / "train" / "cat").rename(tmp_path / "cats")
    (folder / "train" / "cat").symlink_to(tmp_path / "cats")
    assert names(folder) == before


def test_hidden_files_and_folders_are_left_out(folder: Path) -> None:
    before = names(folder)
    for place in ("train/.git", "train/cat/.ipynb_checkpoints", "test/.cache"):
        (folder / place).mkdir()
        Image.new("RGB", (12, 12)).save(folder / place / "0.png")
    Image.new("RGB", (12, 12)).save(folder / "train" / "cat" / ".thumbnail.png")
    assert names(folder) == before


@pytest.mark.parametrize("place", ["train/cat/9.png", "train/bird", "test/cat/more"])
def test_a_link_that_leads_nowhere_is_named(folder: Path, place: str) -> None:
    (folder / place).symlink_to("nowhere")
    with pytest.raises(DataError, match=f"{place} is a link that leads nowhere"):
        scan(folder)
    (folder / place).unlink()
    (folder / place).symlink_to(folder / place)
    with pytest.raises(DataError, match=f"{place} is a link that leads nowhere"):
        scan(folder)


def test_only_regular_files_are_images(folder: Path, root: Path) -> None:
    before = names(folder)
    os.mkfifo(folder / "train" / "cat" / "pipe.png")
    (folder / "train" / "dog" / "device.png").symlink_to("/dev/null")
    assert names(folder) == before
    assert inspect(scan(folder), root).damaged == ()


def test_names_need_not_be_utf8(folder: Path, root: Path) -> None:
    odd = os.fsencode(folder / "train" / "cat") + b"/\xff\xfe.png"
    try:
        os.rename(folder / "train" / "cat" / "0.png", odd)  # noqa: PTH104 - of bytes
    except OSError:
        pytest.skip("this file system has no such names")
    choice = choose(folder, 96, root)
    dataset = load(choice.spec, DataLocation(root, folder))
    assert sum(len(labels) for _, labels in batches(dataset)) == 6
    small = choose(folder, 12, root)
    assert len(load(small.spec, DataLocation(root, folder)).train) == 6
    with open(odd, "wb"):  # noqa: PTH123 - of bytes
        pass
    with pytest.raises(DataError, match=r"1 damaged") as caught:
        choose(folder, None, root)
    assert str(caught.value).encode()
    assert choose(folder, None, root, skip_damaged=True).training_images == 5


def batches(dataset: Dataset | StreamedDataset, workers: int = 0) -> list[tuple[torch.Tensor, ...]]:
    data = batches_of(dataset, dataset_augmentation(dataset), CPU, workers)
    order, variation = (torch.Generator().manual_seed(seed) for seed in (1, 2))
    return list(data.training_batches(4, order, variation))


def dataset_augmentation(dataset: Dataset | StreamedDataset) -> str:
    return "none" if isinstance(dataset, StreamedDataset) else "crop4-flip"


def test_a_folder_that_may_not_be_read_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"cannot read .*train/dog: Permission denied"):
        scan(folder)


def test_a_name_that_is_too_long_is_refused(root: Path) -> None:
    with pytest.raises(DataError):
        choose(Path("a" * 5000), None, root)
    with pytest.raises(DataError):
        load(known_data("imagenet").spec, DataLocation(Path("a" * 5000)))
    with pytest.raises(DataError):
        load(known_data("cifar10").spec, DataLocation(Path("a" * 5000)))


def test_a_circle_of_links_is_refused(tmp_path: Path, root: Path) -> None:
    (tmp_path / "round").symlink_to(tmp_path / "round")
    with pytest.raises(DataError):
        choose(tmp_path / "round", None, root)


@pytest.mark.parametrize("name", ["a\nb", b"\xff"])
def test_a_folder_no_experiment_can_be_named_after_is_refused(
    name: str | bytes, tmp_path: Path, root: Path
) -> None:
    write_folder(tmp_path / "mine", {"train": 2, "test": 1})
    odd = tmp_path / os.fsdecode(name)
    (tmp_path / "mine").rename(odd)
    with pytest.raises(DataError, match="rename the folder"):
        choose(odd, None, root)


def remembered(**changed: object) -> str:
    note = {"format": 6, "content_hash": "0" * 64, "damaged": [], "reasons": [], "side": 12}
    return json.dumps(note | {"in_both": [], "in_two": []} | changed)


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "[]", "3", '"x"', "[" * 100_000, "\ufeff"),
        remembered(content_hash=None),
        remembered(content_hash="0"),
        remembered(content_hash=3),
        remembered(damaged=None),
        remembered(damaged="train/cat/0.png"),
        remembered(damaged=[1], reasons=["x"]),
        remembered(damaged=["x"]),
        remembered(reasons=None),
        remembered(side="12"),
        remembered(side=[12]),
        remembered(format=1),
        remembered(format=None),
        remembered(format=2),
        remembered(in_both=None),
        remembered(in_both=[["a"]]),
        remembered(in_two=[["a", 1]]),
        remembered(in_two=["ab"]),
    ],
)
def test_a_note_that_is_not_ours_is_not_believed(folder: Path, root: Path, text: str) -> None:
    expected = inspect(scan(folder), root)
    (note,) = root.iterdir()
    note.write_text(text)
    assert inspect(scan(folder), root) == expected


def test_a_note_of_ours_is_believed(folder: Path, root: Path) -> None:
    inspect(scan(folder), root)
    (note,) = root.iterdir()
    note.write_text(remembered())
    assert inspect(scan(folder), root).content_hash == "0" * 64


def test_a_pipe_in_place_of_the_note_does_not_hang(folder: Path, root: Path) -> None:
    expected = inspect(scan(folder), root)
    (note,) = root.iterdir()
    note.unlink()
    os.mkfifo(note)
    assert inspect(scan(folder), root) == expected


def photograph(path: Path, orientation: int) -> Image.Image:
    """A picture that no turn leaves as it is, saved with an EXIF orientation; gives it turned."""
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :8] = 255
    pixels[:, 20:, 0] = 128
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", [1, *TURNS, 0, 9])
def test_images_are_turned_as_the_camera_was_held(
    suffix: str, orientation: int, tmp_path: Path
) -> None:
    expected = photograph(tmp_path / f"x.{suffix}", orientation)
    turned = upright(open_rgb((tmp_path / f"x.{suffix}").read_bytes()))
    assert np.array_equal(np.asarray(turned), np.asarray(expected))


def test_a_turned_image_makes_another_experiment_and_imagenet_is_read_as_it_lies(
    folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in (12, 96):
        hashes, pixels = set(), []
        for orientation in (1, 3):
            photograph(folder / "test" / "cat" / "0.png", orientation)
            choice = choose(folder, size, root)
            hashes.add(choice.spec.content_hash)
            dataset = load(choice.spec, DataLocation(root, folder))
            data = batches_of(dataset, dataset_augmentation(dataset), CPU, 0)
            pixels.append(next(iter(data.test_batches(4)))[0])
        assert len(hashes) == 2
        assert not torch.equal(pixels[0][0], pixels[1][0])
    lies = (root / "imagenet").parent
    lies.mkdir(exist_ok=True)
    folder.rename(root / "imagenet")
    (root / "imagenet" / "test").rename(root / "imagenet" / "val")
    for name, count in (("CLASSES", 2), ("TRAINING_IMAGES", 6), ("TEST_IMAGES", 4)):
        monkeypatch.setattr(imagenet, name, count)
    pixels = []
    for orientation in (1, 3):
        photograph(root / "imagenet" / "val" / "cat" / "0.png", orientation)
        dataset = load(known_data("imagenet").spec, DataLocation(root))
        data = batches_of(dataset, "none", CPU, 0)
        pixels.append(next(iter(data.test_batches(4)))[0])
    assert torch.equal(*pixels)


def test_the_hash_of_images_that_lie_right_is_what_it_was(folder: Path, root: Path) -> None:
    """SHA-256 over each name, a NUL, the file's SHA-256 and a line end: results depend on it."""
    import hashlib

    digest = hashlib.sha256()
    for name in names(folder):
        content = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        digest.update(f"{name}\0{content}\n".encode())
    assert inspect(scan(folder), root).content_hash == digest.hexdigest()


def bomb(path: Path, width: int, height: int) -> None:
    """An image that is small on disk."""
    Image.new("1", (width, height)).save(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("size", [(30_000, 3_000), (3_000, 30_000), (MOST_PIXELS, 1)])
def test_an_image_too_large_for_memory_is_damaged_and_its_size_is_the_reason(
    folder: Path, root: Path, size: tuple[int, int]
) -> None:
    bomb(folder / "train" / "cat" / "wide.png", *size)
    expected = size[0] * size[1] > MOST_PIXELS
    inspection = inspect(scan(folder), root)
    assert inspection.damaged == (("train/cat/wide.png",) if expected else ())
    if expected:
        with pytest.raises(DataError, match=rf"{size[0]:,}×{size[1]:,} pixels, more than 89 mill"):
            choose(folder, None, root)


def test_a_very_wide_image_is_cut_before_it_is_enlarged() -> None:
    wide = Image.new("RGB", (1_000_000, 10), "red")
    assert centred(wide, 224).size == (224, 224)
    noise = np.random.default_rng(0).integers(0, 256, (40, 600, 3), np.uint8)
    image = Image.fromarray(noise)
    middle = centred(image, 96)
    # Up to 16:1 nothing is cut: the figures of earlier runs stand.
    from torchvision.transforms.functional import center_crop, resize

    assert np.array_equal(
        np.asarray(middle), np.asarray(center_crop(resize(image, [110]), [96, 96]))
    )


@pytest.mark.parametrize("size", [(40, 40), (41, 96), (97, 40), (3, 200), (64, 33)])
def test_images_are_cut_and_resized_as_torchvision_does(size: tuple[int, int]) -> None:
    from torchvision.transforms.functional import center_crop, resize

    height, width = size
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    side = min(width, height)
    theirs = resize(center_crop(image, [side, side]), [32, 32])
    assert np.array_equal(np.asarray(middle(image, 32)), np.asarray(theirs))


def test_one_class_is_nothing_to_tell_apart(folder: Path) -> None:
    for split in ("train", "test"):
        for path in sorted((folder / split / "dog").iterdir()):
            path.unlink()
        (folder / split / "dog").rmdir()
    with pytest.raises(DataError, match="one class only, cat"):
        scan(folder)


def test_a_class_without_test_images_is_named(folder: Path, root: Path) -> None:
    for path in sorted((folder / "test" / "dog").iterdir()):
        path.write_text("no image")
    with pytest.raises(DataError, match="test/dog has no image that can be decoded"):
        choose(folder, None, root, skip_damaged=True)
    for path in sorted((folder / "test" / "dog").iterdir()):
        path.unlink()
    with pytest.raises(DataError, match="test/dog has no image"):
        scan(folder)
    (folder / "test" / "dog").rmdir()
    with pytest.raises(DataError, match="test lacks a class that train/ has: dog"):
        scan(folder)


def test_which_of_test_and_val_is_used_is_said_once(folder: Path, root: Path) -> None:
    said: list[str] = []
    choose(folder, None, root, remark=said.append)
    assert said == []
    write_folder(folder, {"val": 1})
    choose(folder, None, root, remark=said.append)
    (line,) = said
    assert "test/ and val/: test/ is tested on" in line
    assert len(scan(folder).test) == 4


def test_imagenets_own_test_folder_is_no_obstacle(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no labels, and no class folders."""
    for name, count in (("CLASSES", 2), ("TRAINING_IMAGES", 4), ("TEST_IMAGES", 2)):
        monkeypatch.setattr(imagenet, name, count)
    folder = write_folder(root / "imagenet", {"train": 2, "val": 1})
    (folder / "test").mkdir()
    Image.new("RGB", (12, 12)).save(folder / "test" / "0.png")
    assert len(load(known_data("imagenet").spec, DataLocation(root)).test) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_vanishes_during_training_is_a_sentence(
    folder: Path, root: Path, workers: int
) -> None:
    choice = choose(folder, 96, root)
    dataset = load(choice.spec, DataLocation(root, folder))
    (folder / "train" / "dog" / "1.png").unlink()
    with pytest.raises(DataError, match=r"train/dog/1.png cannot be decoded any more") as caught:
        batches(dataset, workers)
    assert "\n" not in str(caught.value)


def test_an_image_that_vanishes_while_images_are_read_is_a_sentence(
    folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = choose(folder, None, root)
    found = inspect(scan(folder), root / "inspections")
    monkeypatch.setattr("dia_repro.data.sources.folder.inspect", vanish(folder, lambda: found))
    with pytest.raises(DataError, match=r"train/dog/1.png cannot be decoded any more"):
        load(choice.spec, DataLocation(root, folder))


def vanish(folder: Path, after: Callable[[], object]) -> Callable[..., object]:
    def inspected(*_: object) -> object:
        (folder / "train" / "dog" / "1.png").unlink()
        return after()

    return inspected


def test_bytes_that_are_no_image_have_a_reason_without_addresses(folder: Path, root: Path) -> None:
    (folder / "train" / "cat" / "x.png").write_bytes(io.BytesIO(b"GIF").getvalue())
    assert inspect(scan(folder), root).reasons == ("not an image",)


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from PIL import Image
from dia_repro.data.registry import DataError
from dia_repro.data.image_folder import scan
from dia_repro.data.inspection import inspect

found = scan(Path(sys.argv[1]))
Image.init()
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
if sys.argv[2] == "little":
    resource.setrlimit(resource.RLIMIT_AS, (used + 150 * 2**20, resource.RLIM_INFINITY))
try:
    print(inspect(found, Path(sys.argv[1], "memory")).damaged)
except DataError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and limits memory as Linux does")
def test_lack_of_memory_is_no_damage_of_an_image(folder: Path) -> None:
    """It would be remembered, and the image left out of what is trained on."""
    large = folder / "train" / "cat" / "large.png"
    Image.new("RGB", (8000, 8000)).save(large)  # 256 MB decoded

    def inspected(memory: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", LITTLE_MEMORY, str(folder), memory],
            env=clean_environment(MALLOC_ARENA_MAX="1"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert inspected("little") == f"cannot decode {large}: not enough memory\n"
    assert inspected("enough") == "()\n"
