"""The method in one file is the package's: same network, same unit, and it learns."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import optim
from torch.utils.data import DataLoader, TensorDataset

from dia_repro.models import build

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
def test_an_example_has_the_papers_number_of_parameters(example: ModuleType, depth: int) -> None:
    with torch.device("meta"):
        theirs = build(f"resnet{depth}", classes=100, attention="dia-lstm", reduction=4)
        ours = example.DIANet(depth, classes=100)
    counts = [sorted(p.numel() for p in parameters(network)) for network in (ours, theirs)]
    assert counts[0] == counts[1]


def test_an_examples_network_computes_the_same_as_the_packages(example: ModuleType) -> None:
    """With the same weights, logits and gradients agree to 1e-12 in double precision."""
    theirs = build("resnet20", classes=10, attention="dia-lstm", reduction=4).double()
    ours = example.DIANet(20, classes=10).double()
    ours.load_state_dict({_name(name): value for name, value in theirs.state_dict().items()})
    images = torch.randn(4, 3, 32, 32, dtype=torch.double)
    logits = [network(images) for network in (ours, theirs)]
    torch.testing.assert_close(*logits, rtol=1e-12, atol=1e-12)
    for of_network in logits:
        of_network.square().sum().backward()
    gradients = {_name(name): weights.grad for name, weights in theirs.named_parameters()}
    for name, weights in ours.named_parameters():
        torch.testing.assert_close(weights.grad, gradients[name], rtol=1e-12, atol=1e-12)


def _name(name: str) -> str:
    """Return the example's name of one of the package's parameters."""
    name = re.sub(r"blocks\.(\d+)\.", r"\1.", name).replace(".layers.", ".branch.")
    return re.sub(r"stages\.(\d+)\.unit\.cells\.0", r"units.\1", name)


def test_an_example_learns(example: ModuleType) -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8) % 2
    batches = DataLoader(TensorDataset(images, labels), 8)
    network = example.DIANet(depth=11, classes=2)
    optimizer = optim.SGD(network.parameters(), 0.05, momentum=0.9)
    losses = [example.train_epoch(network, batches, optimizer, "cpu") for _ in range(15)]
    assert losses[-1] < losses[0] / 2
    assert 0 <= example.accuracy(network, batches, "cpu") <= 100


@pytest.mark.slow
def test_the_notebook_prints_what_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MPLBACKEND", raising=False)  # set by what draws pictures in this process
    nbformat = pytest.importorskip("nbformat", reason="the extra docs is not installed")
    nbclient = pytest.importorskip("nbclient", reason="the extra docs is not installed")
    path = ROOT / "examples" / "results.ipynb"
    shown, executed = (nbformat.read(path, as_version=4) for _ in range(2))
    nbclient.NotebookClient(executed, resources={"metadata": {"path": path.parent}}).execute()
    texts = [
        [
            output.get("data", {}).get("text/plain", output.get("text"))
            for cell in notebook.cells
            for output in cell.get("outputs", ())
        ]
        for notebook in (shown, executed)
    ]
    assert len(texts[0]) > 5
    assert texts[0] == texts[1]
