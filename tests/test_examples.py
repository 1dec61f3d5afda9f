"""The method in one file is the package's: same network, same unit, and it learns."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import optim
from torch.utils.data import DataLoader, TensorDataset

from dia_repro.models import build
from dia_repro.models.attention.dia_lstm import DIALSTM

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dianet", ROOT / "examples/dianet_cifar.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parameters(network: torch.nn.Module) -> list[torch.nn.Parameter]:
    return list(network.parameters())


@pytest.mark.parametrize("depth", [83, 164])
def test_it_has_the_papers_parameters(example: ModuleType, depth: int) -> None:
    with torch.device("meta"):
        theirs = build(f"resnet{depth}", classes=100, attention="dia-lstm", reduction=4)
        ours = example.DIANet(depth, classes=100)
    counts = [sorted(p.numel() for p in parameters(network)) for network in (ours, theirs)]
    assert counts[0] == counts[1]


def test_its_unit_is_the_packages(example: ModuleType) -> None:
    ours, theirs = example.DIALSTM(16), DIALSTM(16)
    for parameter, other in zip(parameters(ours), parameters(theirs), strict=True):
        parameter.data.copy_(other.data)
    pooled, state, other_state = torch.randn(3, 5, 16), None, None
    for vector in pooled:
        state = ours(vector, state)
        attention, other_state = theirs(vector, other_state)
        torch.testing.assert_close(state[0], attention)


def test_it_learns(example: ModuleType) -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8) % 2
    batches = DataLoader(TensorDataset(images, labels), 8)
    network = example.DIANet(depth=11, classes=2)
    optimizer = optim.SGD(network.parameters(), 0.05, momentum=0.9)
    losses = [example.train_epoch(network, batches, optimizer, "cpu") for _ in range(15)]
    assert losses[-1] < losses[0] / 2
    assert 0 <= example.accuracy(network, batches, "cpu") <= 100
