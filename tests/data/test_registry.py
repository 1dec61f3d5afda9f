"""The registry of data sources: one file registers a source, and everything knows it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dia_repro.data import (
    DataChoice,
    DataError,
    Source,
    known_data,
    known_sources,
    load,
    register,
    source_of,
)
from dia_repro.errors import UsageError
from dia_repro.experiments.names import FOLDER, PACKED, DataLocation
from tests.helpers import clean_environment, copy_package

# A data source of one's own, complete: what a user writes.
STRIPES = '''
"""Stripes, across in one class and down in the other."""

import torch

from dia_repro.data.dataset import Dataset, as_images
from dia_repro.data.registry import register_known


def load(spec, location, on_progress=None):
    across = torch.arange(32).remainder(2).mul(255).to(torch.uint8).expand(40, 3, 32, 32)
    labels = torch.arange(40) % 2
    pixels = torch.where(labels.bool()[:, None, None, None], across, across.mT)
    images = as_images(pixels, labels)
    return Dataset(spec.dataset, images, images, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


register_known(
    "stripes", classes=2, image_size=32, augmentation="none", training_images=40, load=load
)
'''
# Its only other file: a test of it, here as a program, and commands in the same process after it.
TEST = """
import shlex
import sys
from pathlib import Path

from dia_repro.cli.main import main
from dia_repro.data import known_data, load
from dia_repro.experiments.names import DataLocation

dataset = load(known_data("stripes").spec, DataLocation(Path.cwd()))
assert len(dataset.digest()) == 64
print(len(dataset.train))
for command in (
    "data check stripes",
    "run table5 --protocol demo --epochs 1 --only 'SENet ResNet83' --dataset stripes",
    "runs list --format csv",
):
    sys.argv = ["dia-repro", *shlex.split(command)]
    try:
        main()
    except SystemExit as end:
        assert end.code == 0, command
"""


@pytest.mark.slow
def test_a_source_in_one_file_and_its_test_is_known_to_every_command(tmp_path: Path) -> None:
    (copy_package(tmp_path) / "data" / "sources" / "stripes.py").write_text(STRIPES)
    (tmp_path / "test_stripes.py").write_text(TEST)
    done = subprocess.run(
        [sys.executable, "test_stripes.py"],
        cwd=tmp_path,
        env=clean_environment(PYTHONPATH=str(tmp_path), CUDA_VISIBLE_DEVICES=""),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "stripes in data is complete: 40 training and 40 test images" in done.stderr
    images, *_, run = done.stdout.splitlines()
    assert images == "40"
    assert "stripes" in run
    assert "finished" in run


def test_shipped_sources_are_registered() -> None:
    assert {*known_sources()} == {"cifar10", "cifar100", "digits", "imagenet"}
    for name, choice in known_sources().items():
        assert choice.spec.dataset == name
    for name in (FOLDER, PACKED):
        assert source_of(f"{name}some/path").name == name


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    words = r"unknown data set 'mnist': choose one of cifar10, .*, folder:PATH or packed:PATH"
    for name in ("mnist", "mnist:x"):
        with pytest.raises(UsageError, match=words.replace("mnist", name)):
            source_of(name)


def test_data_of_a_source_that_is_not_registered_here_are_missing(tmp_path: Path) -> None:
    spec = known_data("digits").spec.model_copy(update={"dataset": "mnist"})
    with pytest.raises(DataError, match="no data source called mnist is registered here"):
        load(spec, DataLocation(tmp_path))


def nothing(*_: object) -> None:
    """Stands for a function of a source."""


def test_a_source_that_clashes_or_says_too_little_is_refused() -> None:
    digits = source_of("digits")
    with pytest.raises(ValueError, match="called digits already"):
        register(digits)
    for known, choose in ((None, None), (DataChoice(known_data("digits").spec, 1), nothing)):
        with pytest.raises(ValueError, match="either known data or a way to choose"):
            register(Source("other", digits.load, known, choose))  # type: ignore[arg-type]
    assert "other" not in known_sources()
