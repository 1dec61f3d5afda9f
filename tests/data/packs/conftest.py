"""A pack for each test that wants one."""

from __future__ import annotations

from pathlib import Path

import pytest

from dia_repro.data.packing import pack
from dia_repro.data.photographs import write_photographs
from tests.data.packs import TEST, TRAIN, job


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_photographs(tmp_path / "pets", TRAIN, TEST, TRAIN + TEST)
    return tmp_path / "pets"


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "data" / "inspections"


@pytest.fixture
def packed(images: Path, memory: Path) -> Path:
    wanted = job(images)
    pack(wanted, memory)
    return wanted.target
