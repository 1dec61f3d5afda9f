"""The registry of data sources: one file registers a source, and everything knows it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dia_repro
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
from tests.helpers import clean_environment

PACKAGE = Path(dia_repro.__file__).parent
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
# Its only other file: a test of it, here as a program.
TEST = """
from pathlib import Path

from dia_repro.data import known_data, load
from dia_repro.experiments.names import DataLocation

dataset = load(known_data("stripes").spec, DataLocation(Path.cwd()))
assert len(dataset.digest()) == 64
print(len(dataset.train))
"""


@pytest.mark.slow
def test_a_source_in_one_file_and_its_test_is_known_to_every_command(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "dia_repro", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "dia_repro" / "data" / "sources" / "stripes.py").write_text(STRIPES)
    (tmp_path / "test_stripes.py").write_text(TEST)

    def python(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=clean_environment(PYTHONPATH=str(tmp_path)),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    assert python("test_stripes.py") == "40\n"
    command = ("-m", "dia_repro")
    assert "stripes in data is complete: 40 training and 40 test images" in python(
        *command, "data", "check", "stripes"
    )
    run = ("run", "table5", "--protocol", "demo", "--epochs", "1", "--only", "SENet ResNet83")
    python(*command, *run, "--dataset", "stripes", "--device", "cpu")
    assert "stripes" in python(*command, "runs", "list", "--format", "csv")


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
