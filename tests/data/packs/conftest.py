"""A pack for each test that wants one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.photographs import write_photographs
from dia_repro.data.packing import pack
from tests.data.packs import TEST, TRAIN, job


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    write_photographs(folder, TRAIN, TEST, TRAIN + TEST)
    return folder


@pytest.fixture
def images(photographs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(photographs, tmp_path / "pets"))


@pytest.fixture
def packed(images: Path) -> Path:
    wanted = job(images)
    pack(wanted)
    return wanted.target
