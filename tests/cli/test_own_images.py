"""A user's own images from the command line: trained on, shown, refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from tests.helpers import cli, one_line, write_folder

NARROW = ("--protocol", "demo", "--epochs", "1", "--only", "SENet ResNet83")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "pets", {"train": 20, "val": 5})


def test_a_network_is_trained_on_them_and_shown_by_path_and_by_name(
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
    assert "cut to 1 epochs on folder:pets" in title
    # The images have gone; the results are still there.
    shutil.rmtree(images)
    assert shown("--dataset", "folder:pets") == by_path
    unknown = cli("show", "table5", "--dataset", "folder:dogs", cwd=tmp_path)
    assert unknown.returncode == 2
    assert one_line(unknown.stderr)


def test_two_sets_of_one_name_are_told_apart(images: Path, tmp_path: Path) -> None:
    for size in ("12", "16"):
        options = (*NARROW, "--dataset", f"folder:{images}", "--image-size", size)
        assert cli("run", "table5", *options, cwd=tmp_path).returncode == 0
    shutil.rmtree(images)
    ambiguous = cli("show", "table5", "--dataset", "folder:pets", cwd=tmp_path)
    assert ambiguous.returncode == 2
    assert "image sizes 12, 16" in ambiguous.stderr
    sized = ("--dataset", "folder:pets", "--image-size", "16", "--epochs", "1")
    assert "16×16 pixels" in cli("show", "table5", *sized, cwd=tmp_path).stdout


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
    told = cli("run", "table5", *NARROW, *dataset, "--skip-damaged", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    shown = cli("show", "table5", "--epochs", "1", *dataset, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "demo protocol cut to 1 epochs on folder:pets" in shown.stdout


def test_an_empty_table_says_the_whole_command(images: Path, tmp_path: Path) -> None:
    options = ("--epochs", "2", "--dataset", f"folder:{images}", "--image-size", "16")
    shown = cli("show", "table5", "--protocol", "demo", *options, cwd=tmp_path)
    wanted = " ".join(["dia-repro run table5 --protocol demo", *options])
    assert wanted in shown.stderr
