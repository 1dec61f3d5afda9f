"""A stage with a walked unit against the plain modules, in float64; tracing is tested elsewhere."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional

from dia_repro.experiments.spec import (
    DIALSTMAttention,
    ModelSpec,
    PreResNetBackbone,
    ResNetBackbone,
)
from dia_repro.models import from_spec
from dia_repro.models.fast import WalkedStage
from dia_repro.models.network import StagedNetwork

DIA = DIALSTMAttention()
NETWORKS = {
    "resnet": ModelSpec(backbone=ResNetBackbone(depth=20), attention=DIA),
    "without BN": ModelSpec(backbone=ResNetBackbone(depth=11), attention=DIA, norm=False),
    "without skips": ModelSpec(backbone=ResNetBackbone(depth=11), attention=DIA, skip=False),
    "BN at the end": ModelSpec(
        backbone=PreResNetBackbone(depth=11), attention=DIALSTMAttention(extraction="bn+gap")
    ),
}


@pytest.fixture(autouse=True)
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)


def gradients(network: StagedNetwork) -> list[torch.Tensor]:
    torch.manual_seed(1)
    images = 2 * torch.randn(6, 3, 8, 8, dtype=torch.float64) + 1
    functional.cross_entropy(network(images), torch.arange(6) % 5).backward()
    return [weight.grad for weight in network.parameters() if weight.grad is not None]


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_and_statistics_are_the_plain_ones(name: str) -> None:
    torch.manual_seed(0)
    plain = from_spec(NETWORKS[name], 5).double().train()
    walked = copy.deepcopy(plain)
    walked.use_compiled()
    assert all(isinstance(stage.compiled, WalkedStage) for stage in walked.stages)
    for ours, expected in zip(gradients(walked), gradients(plain), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)
    for mine, theirs in zip(walked.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(walked.eval()(images), plain.eval()(images))


def test_under_autocast_the_unit_stays_in_float32() -> None:
    torch.manual_seed(0)
    network = from_spec(NETWORKS["resnet"], 5)
    plain = copy.deepcopy(network)
    network.use_compiled()
    images = torch.randn(4, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(images)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), plain(images), rtol=0.05, atol=0.05)
    found.float().sum().backward()
    gradients = [weight.grad for weight in network.parameters()]
    assert all(each is not None and each.dtype == torch.float32 for each in gradients)


def test_a_stack_of_cells_is_compiled_block_by_block() -> None:
    spec = ModelSpec(backbone=ResNetBackbone(depth=11), attention=DIALSTMAttention(cells=2))
    network = from_spec(spec, 5)
    network.use_compiled()
    assert not any(isinstance(stage.compiled, WalkedStage) for stage in network.stages)
    assert network(torch.randn(2, 3, 8, 8)).shape == (2, 5)
