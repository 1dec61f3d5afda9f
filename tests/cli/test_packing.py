"""Packs from the command line: made, checked, trained on, shown, weighed against training."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks.photographs import write_photographs
from tests.helpers import benchmarks, cli, one_line

# Of all networks the quickest to train on images of more than 64 pixels.
NARROW = ("table3", "--protocol", "demo", "--epochs", "1", "--only", "original ResNet34")
PACK = ("--side", "80", "--quality", "85")
PACKED = "data/packed/pets-80-q85"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_photographs(tmp_path / "pets", 8, 4, 12)
    return tmp_path / "pets"


@pytest.mark.slow
def test_packed_images_are_trained_on_as_another_experiment(images: Path, tmp_path: Path) -> None:
    made = cli("data", "pack", f"folder:{images}", *PACK, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert f"{PACKED} is written: 8 training and 4 test images" in made.stderr
    assert f"--dataset packed:{PACKED}" in made.stderr
    checked = cli("data", "check", f"packed:{PACKED}", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert "packed:pets-80-q85, 2 classes, 8 training and 4 test images" in checked.stderr
    ran = cli("run", *NARROW, "--dataset", f"packed:{PACKED}", "--image-size", "72", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    # By its name, when it has gone; the originals' cells stay empty.
    (tmp_path / PACKED).rename(tmp_path / "gone")
    shown = cli("show", "table3", "--epochs", "1", "--dataset", "packed:pets-80-q85", cwd=tmp_path)
    assert "on packed:pets-80-q85" in shown.stdout
    assert shown.returncode == 0, shown.stderr
    (run,) = json.loads(cli("runs", "list", "--format", "json", cwd=tmp_path).stdout)
    assert run["data"] == "packed:pets-80-q85 72×72"
    originals = ("--dataset", f"folder:{images}", "--image-size", "72")
    empty = cli("show", "table3", "--epochs", "1", *originals, cwd=tmp_path)
    assert "No finished runs" in empty.stderr


@pytest.mark.exhaustive
def test_plan_weighs_the_data_path_against_training(images: Path, tmp_path: Path) -> None:
    options = ("--dataset", f"folder:{images}", "--image-size", "72", "--device", "cpu")
    planned = cli("plan", *NARROW, *options, cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    said = planned.stderr.splitlines()[-1]
    found = re.fullmatch(
        r"Data: \d+ cores? decodes? ([\d,.]+) images/s of folder:pets, original ResNet34 "
        r"trains on [\d,.]+ on cpu: the training step limits\.",
        said,
    )
    assert found, said
    assert float(found[1].replace(",", "")) > 1
    resident = cli("plan", *NARROW, cwd=tmp_path)
    assert "Data:" not in resident.stderr


@pytest.mark.slow
def test_misuse_is_one_line(images: Path, tmp_path: Path) -> None:
    assert cli("data", "pack", f"folder:{images}", *PACK, cwd=tmp_path).returncode == 0
    for arguments, code, words in (
        (("data", "pack", "cifar10"), 2, "only imagenet and folder:PATH are packed"),
        (("data", "pack", "imagenet"), 3, "imagenet is not in"),
        (("data", "pack", "imagenet", "--skip-damaged"), 2, "goes with --dataset folder:PATH"),
        (("data", "pack", "folder:nowhere"), 3, "there is no folder"),
        (("data", "pack", f"folder:{images}", *PACK, "--out", "pets"), 3, "is not a pack"),
        (("data", "check", "packed:pets"), 3, "is not a pack"),
        (("plan", *NARROW, "--dataset", "packed:nowhere"), 3, "'dia-repro data pack' makes one"),
        (("plan", *NARROW, "--dataset", f"packed:{PACKED}", "--skip-damaged"), 2, "folder:PATH"),
        (("plan", *NARROW, "--dataset", f"packed:{PACKED}", "--image-size", "96"), 3, "too few"),
        (("plan", *NARROW, "--dataset", "packed:"), 2, "packed: needs the path"),
        (("show", "table3", "--dataset", "packed:nowhere"), 2, "no run on packed:nowhere"),
    ):
        result = cli(*arguments, cwd=tmp_path)
        assert result.returncode == code, (arguments, result.stderr)
        # Both parts have the same photographs, which is remarked when they are looked through.
        lines = result.stderr.splitlines(keepends=True)
        said = "".join(line for line in lines if "pixels of a training image" not in line)
        assert one_line(said), (arguments, result.stderr)
        assert words in result.stderr


@pytest.mark.exhaustive
def test_the_bench_compares_files_and_pack(tmp_path: Path) -> None:
    options = ("--windows", "1", "--seconds", "0.1", "--device", "cpu")
    done = benchmarks("step", "--suite", "input", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "bench.json").read_text())
    found = {measurement["name"]: measurement for measurement in content["measurements"]}
    assert found["one core: packed ÷ files"]["value"] > 1
    assert "5 windows" in found["one core: files"]["how"]
    assert 0.2 < found["bytes of a pack ÷ of its files"]["value"] < 0.8
