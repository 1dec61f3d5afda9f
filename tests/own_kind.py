"""An attention kind of one's own, in the two files of its author's folder."""

from __future__ import annotations

from pathlib import Path

UNIT = '''"""ECA: a convolution over the channels. Wang et al.: ECA-Net, CVPR 2020, eq. 7."""
from torch import nn
from dia_repro.models import register_attention


@register_attention("eca", title="ECA")
class ECA(nn.Module):
    def __init__(self, channels: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, pooled, state=None):
        return self.conv(pooled[:, None])[:, 0].sigmoid(), None
'''
TEST = """import torch
from dia_repro.models import build


def test_it_recalibrates_channels():
    network = build("resnet11", classes=10, attention="eca", kernel=5)
    assert network.stages[0].blocks[0].attention.conv.weight.shape == (1, 1, 5)
    assert network(torch.randn(2, 3, 8, 8)).shape == (2, 10)
"""


def write_eca(folder: Path, unit: str = UNIT) -> Path:
    """Write the unit and its test; the folder."""
    folder.mkdir(exist_ok=True)
    (folder / "eca.py").write_text(unit)
    (folder / "test_eca.py").write_text(TEST)
    return folder
