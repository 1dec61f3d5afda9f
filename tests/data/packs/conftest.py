"""A pack for each test that wants one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dia_repro.data.packing import pack
from dia_repro.data.photographs import write_photographs
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
def memory(tmp_path: Path) -> Path:
    return tmp_path / "data" / "inspections"


@pytest.fixture
def packed(images: Path, memory: Path) -> Path:
    wanted = job(images)
    pack(wanted, memory)
    return wanted.target
