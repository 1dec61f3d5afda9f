"""The attention kind of docs/own-attention.md, in the files of a user's folder."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).parents[1] / "docs" / "own-attention.md").read_text(encoding="utf-8")
UNIT, ARTIFACT, _ = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
TEST = """import torch
from dia_repro.models import build


def test_it_recalibrates_channels():
    network = build("resnet11", classes=10, attention="eca", kernel=5)
    assert network.stages[0].blocks[0].attention.conv.weight.shape == (1, 1, 5)
    assert network(torch.randn(2, 3, 8, 8)).shape == (2, 10)
"""


def write_eca(folder: Path, unit: str = UNIT) -> Path:
    """Write the unit and its test, and return the folder."""
    folder.mkdir(exist_ok=True)
    (folder / "eca.py").write_text(unit)
    (folder / "test_eca.py").write_text(TEST)
    return folder
