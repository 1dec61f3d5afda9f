"""A user's own images from the command line: trained on, shown, refused."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from rich.console import Console

from dia_repro.artifacts.paper import TABLE5
from dia_repro.cli import data as data_command
from dia_repro.cli import probes
from dia_repro.cli.options import Device
from dia_repro.cli.output import watch
from dia_repro.cli.progress import RunProgress
from dia_repro.data import DataChoice, known_data, own_images
from dia_repro.data.sources import imagenet
from dia_repro.execution.dialogue import Dialogue
from dia_repro.execution.executors import find_executor
from dia_repro.execution.messages import Progress
from dia_repro.execution.options import Resources
from dia_repro.experiments.names import DataLocation, Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.results.database import open_database
from dia_repro.training.store import Store
from tests.artifacts.courses import add
from tests.helpers import cli, one_line, write_folder

NARROW = ("--protocol", "demo", "--epochs", "1", "--only", "SENet ResNet83")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "pets", {"train": 20, "val": 5})


@pytest.mark.slow
def test_a_network_is_trained_on_own_images_and_shown_by_path_and_by_name(
    images: Path, tmp_path: Path
) -> None:
    dataset = ("--dataset", f"folder:{images}")
    ran = cli("run", "table5", *NARROW, *dataset, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "1 of 1 runs to train" in ran.stderr
    (run,) = json.loads(cli("runs", "list", "--format", "json", cwd=tmp_path).stdout)
    assert (run["data"], run["epochs"]) == ("folder:pets 12×12", 1)

    def shown(*options: str) -> dict[str, str]:
        result = cli("show", "table5", "--format", "csv", "--epochs", "1", *options, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        cells = csv.DictReader(result.stdout.splitlines())
        places = ("row", "ResNet83"), ("column", "SENet"), ("metric", "top1")
        return next(c for c in cells if all(c[key] == value for key, value in places))

    by_path = shown(*dataset)
    assert float(by_path["ours_mean"]) == run["best_top1"]
    assert by_path["dataset"] == "folder:pets"
    title = cli("show", "table5", "--epochs", "1", *dataset, cwd=tmp_path).stdout.splitlines()[0]
    assert "over 1 epoch on folder:pets" in title
    # The images have gone; the results are still there.
    shutil.rmtree(images)
    assert shown("--dataset", "folder:pets") == by_path
    unknown = cli("show", "table5", "--dataset", "folder:dogs", cwd=tmp_path)
    assert unknown.returncode == 2
    assert one_line(unknown.stderr)


def test_two_sets_of_one_name_are_told_apart(tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "runs.db"), create=True)
    narrow = TABLE5.entries[0]
    for size in (12, 16):
        choice = DataChoice(own_images("folder:pets", 2, size, "a" * 64), None)
        add(database, narrow.spec(Request(Protocol.DEMO, epochs=1, data=choice)), 0, [50.0])
    database.close()
    ambiguous = cli("show", "table5", "--dataset", "folder:pets", cwd=tmp_path)
    assert ambiguous.returncode == 2
    assert "image sizes 12, 16" in ambiguous.stderr
    sized = ("--dataset", "folder:pets", "--image-size", "16", "--epochs", "1")
    assert "16×16 pixels" in cli("show", "table5", *sized, cwd=tmp_path).stdout


@pytest.mark.slow
def test_damaged_images_are_listed_and_refused(images: Path, tmp_path: Path) -> None:
    broken = images / "train" / "cat" / "3.png"
    broken.write_bytes(broken.read_bytes()[:-30])
    check = cli("data", "check", f"folder:{images}", cwd=tmp_path)
    assert check.returncode == 3
    assert check.stdout == f"{broken}\n"
    dataset = ("--dataset", f"folder:{images}")
    refused = cli("run", "table5", *NARROW, *dataset, cwd=tmp_path)
    assert refused.returncode == 3
    assert one_line(refused.stderr)
    assert "train/cat/3.png" in refused.stderr
    told = cli("run", "table5", *NARROW, *dataset, "--skip-damaged", "--keep", "none", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert not list(tmp_path.glob("runs-checkpoints/*/*/*.pt")), "as --keep says"
    again = ("runs", "again", "1", "--images", str(images))
    assert cli(*again, cwd=tmp_path).returncode == 3
    repeated = cli(*again, "--skip-damaged", cwd=tmp_path)
    assert repeated.returncode == 0, repeated.stderr
    assert "the same in all metrics, bit for bit" in repeated.stderr
    shown = cli("show", "table5", "--epochs", "1", *dataset, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "demo protocol over 1 epoch on folder:pets" in shown.stdout


def test_an_empty_table_says_the_whole_command(images: Path, tmp_path: Path) -> None:
    options = ("--epochs", "2", "--dataset", f"folder:{images}", "--image-size", "16")
    shown = cli("show", "table5", "--protocol", "demo", *options, cwd=tmp_path)
    wanted = " ".join(["dia-repro run table5 --protocol demo", *options])
    assert wanted in shown.stderr


def check(images: Path, tmp_path: Path) -> tuple[int, str]:
    result = cli("data", "check", f"folder:{images}", cwd=tmp_path)
    return result.returncode, result.stderr


def test_a_network_is_refused_whose_last_batch_is_of_one_image(tmp_path: Path) -> None:
    images = write_folder(tmp_path / "pets", {"train": 32, "test": 1}, side=32)
    Image.new("RGB", (32, 32)).save(images / "train" / "cat" / "more.png")
    narrow = ("table3", "--protocol", "demo", "--only", "original ResNet34", "--epochs", "1")
    for command in ("run", "plan"):
        result = cli(command, *narrow, "--dataset", f"folder:{images}", cwd=tmp_path)
        assert result.returncode == 2, result.stderr
        assert one_line(result.stderr)
        assert "ResNet34 " in result.stderr
        assert "65 training images in batches of 64 leave one of a single image" in result.stderr
    assert not (tmp_path / "runs.db").exists()


def test_too_large_an_image_is_said_without_warnings(images: Path, tmp_path: Path) -> None:
    Image.new("1", (30_000, 3_000)).save(images / "train" / "cat" / "wide.png")
    refused = cli("run", "table5", *NARROW, "--dataset", f"folder:{images}", cwd=tmp_path)
    assert refused.returncode == 3
    assert one_line(refused.stderr)
    assert "train/cat/wide.png (30,000×3,000 pixels, more than 89 million)" in refused.stderr
    code, said = check(images, tmp_path)
    assert code == 3
    assert "Damaged: train/cat/wide.png (30,000×3,000 pixels" in said
    assert "Warning" not in said


def test_a_folder_named_like_markup_is_just_a_folder(images: Path, tmp_path: Path) -> None:
    (tmp_path / "[").mkdir()
    odd = images.rename(tmp_path / "[" / "][red]pets")
    code, said = check(odd, tmp_path)
    assert code == 0, said
    assert "[/][red]pets: 2 classes" in said


def test_bars_show_names_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=200)
    monkeypatch.setattr("dia_repro.cli.output.stderr", lambda: terminal)
    with watch("Looking through [/] [red]pets") as on_progress:
        on_progress(1, 2)
    monkeypatch.setattr("dia_repro.cli.progress.stderr", lambda: terminal)
    job = SimpleNamespace(run_id=1, label="resnet on folder:[/] [red]pets", weight=1)
    with RunProgress([job]) as progress:  # type: ignore[list-item]
        progress.on_message(job, Progress(0, 1, 0, 1, None))  # type: ignore[arg-type]
    shown = terminal.file.getvalue()  # type: ignore[attr-defined]
    assert "Looking through [/] [red]pets" in shown
    assert "folder:[/] [red]pets" in shown


@pytest.mark.slow
def test_which_of_test_and_val_is_used_is_said_once(images: Path, tmp_path: Path) -> None:
    write_folder(images, {"test": 3})
    planned = cli("plan", "table5", *NARROW, "--dataset", f"folder:{images}", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    assert planned.stderr.count("test/ is tested on") == 1
    assert check(images, tmp_path)[1].count("test/ is tested on") == 1


@pytest.mark.parametrize(
    ("dataset", "code", "words"),
    [
        ("folder:~nobody-of-this-name/x", 2, "no home folder of nobody-of-this-name"),
        ("folder:", 2, "needs the path of a folder"),
        ("folder:" + "a" * 5000, 3, "too long"),
        ("folder:round", 3, "circle"),
        (os.fsdecode(b"folder:\xff"), 2, "encoding"),
    ],
)
def test_impossible_paths_are_refused_in_a_line(
    dataset: str, code: int, words: str, tmp_path: Path
) -> None:
    (tmp_path / "round").symlink_to("round")
    for command in (["data", "check", dataset], ["run", "table5", *NARROW, "--dataset", dataset]):
        result = cli(*command, cwd=tmp_path)
        assert result.returncode == code, result.stderr
        assert one_line(result.stderr)
        assert words in result.stderr
    shown = cli("show", "table5", "--dataset", dataset, cwd=tmp_path)
    assert shown.returncode == 2
    assert one_line(shown.stderr)


def test_imagenet_is_looked_through_with_a_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, count in (("CLASSES", 2), ("TRAINING_IMAGES", 4), ("TEST_IMAGES", 2)):
        monkeypatch.setattr(imagenet, name, count)
    write_folder(tmp_path / "imagenet", {"train": 2, "val": 1})
    seen: list[tuple[int, int]] = []

    @contextmanager
    def watched(label: str) -> Iterator[Callable[[int, int], None]]:
        assert "imagenet" in label
        yield lambda done, total: seen.append((done, total))

    spec = known_data("imagenet").spec

    class Watching(Dialogue):
        watch = staticmethod(watched)

    dialogue = Watching()
    local = find_executor(Resources(device=Device.CPU), dialogue)
    looks: list[Callable[[], object]] = [
        lambda: local.check([spec], DataLocation(tmp_path), Store(tmp_path / "weights"), dialogue),
        lambda: data_command.check("imagenet", tmp_path),
        lambda: probes.images("imagenet", tmp_path),
    ]
    for module in (data_command, probes):
        monkeypatch.setattr(module, "watch", watched)
    for look in looks:
        seen.clear()
        look()
        assert seen[-1] == (6, 6)
        shutil.rmtree(tmp_path / "inspections")
