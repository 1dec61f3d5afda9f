"""What the README shows in Python runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_python_blocks_run(block: str) -> None:
    names: dict[str, object] = {}
    exec(block, names)
    shape = re.search(r"logits = .*# \((\d+), (\d+)\)", block)
    assert shape is not None
    assert tuple(names["logits"].shape) == tuple(map(int, shape.groups()))  # type: ignore[attr-defined]
