"""Budgets that need no GPU: operations a step, and reads from the device."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.step import operations as counting
from benchmarks.step.operations import operations
from benchmarks.step.reference import ReferenceNet
from benchmarks.step.suites import BUDGETS, count_operations, resnet
from dia_repro.data.sources.digits import load_digits
from dia_repro.experiments.spec import DIALSTMAttention, NoAttention, SEAttention
from dia_repro.models import count_parameters, from_spec
from dia_repro.training.trainer import TEST_BATCH, Diverged, Trainer
from tests.helpers import tiny_spec


def test_both_networks_keep_their_budgets() -> None:
    measured = list(count_operations())
    assert [budget.most for budget in measured] == list(BUDGETS.values())
    for budget in measured:
        assert budget.met, budget


def test_the_plain_modules_need_more() -> None:
    spec = resnet(83, DIALSTMAttention())
    assert operations(spec, plain=True).total() > 1.5 * operations(spec).total()


def test_a_value_read_inside_a_step_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = from_spec(resnet(11, NoAttention()).model, 100)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.inner(x)
            return logits * logits.sum().item()

    monkeypatch.setattr(counting, "from_spec", lambda *_: Reads())
    with pytest.raises(RuntimeError, match="meta"):
        operations(resnet(11, NoAttention()))


def test_an_epoch_reads_from_the_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(tiny_spec(), 0, load_digits(), torch.device("cpu"))
    trainer.device = torch.device("cuda")  # a CPU is read at every step: it costs nothing there
    # A GPU's random state is kept on the host.
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda _: torch.zeros(16, dtype=torch.uint8))
    reads: Counter[str] = Counter()
    for name in ("item", "tolist", "cpu", "__bool__", "__float__", "__int__"):
        real = getattr(Tensor, name)

        def counted(self: Tensor, *args: object, _name: str = name, _real: object = real) -> object:
            reads[_name] += 1
            return _real(self, *args)  # type: ignore[operator]

        monkeypatch.setattr(Tensor, name, counted)
    trainer.run_epoch()
    assert reads == {"tolist": 1}


def test_all_weights_are_looked_at_by_one_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each would be thousands of launches on a GPU."""
    trainer = Trainer(tiny_spec(), 0, load_digits(), torch.device("cpu"))
    trainer.begin_epoch(0)
    real, looked_at = torch._foreach_norm, []

    def counted(tensors: list[Tensor], order: float) -> Any:
        looked_at.append(len(tensors))
        return real(tensors, order)

    monkeypatch.setattr(torch, "_foreach_norm", counted)
    with counting.Count() as count:
        trainer.evaluate()
    assert looked_at == [len(list(trainer.model.parameters()))]
    batches = -(-len(load_digits().test) // TEST_BATCH)
    assert sum(n for name, n in count.calls.items() if "isfinite" in name) <= batches + 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_not_finite_ends_a_training(value: float) -> None:
    trainer = Trainer(tiny_spec(), 0, load_digits(), torch.device("cpu"))
    trainer.begin_epoch(0)
    with torch.no_grad():
        trainer.model.classifier.bias[3] = 1e38
        trainer.evaluate()  # large, and its square is not finite
        trainer.model.classifier.bias[3] = value
    with pytest.raises(Diverged):
        trainer.evaluate()


def layers(network: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


@pytest.mark.parametrize("attention", [NoAttention(), SEAttention(kind="se"), DIALSTMAttention()])
def test_the_reference_is_the_same_network(
    attention: NoAttention | SEAttention | DIALSTMAttention,
) -> None:
    spec = resnet(20, attention)
    reference, ours = ReferenceNet(spec), from_spec(spec.model, spec.data.classes)
    assert count_parameters(reference) == count_parameters(ours)
    by_shape: dict[torch.Size, list[nn.Module]] = {}
    for module in layers(ours):
        by_shape.setdefault(module.weight.shape, []).append(module)
    for module in layers(reference):
        module.load_state_dict(by_shape[module.weight.shape].pop(0).state_dict())
    assert not any(by_shape.values())
    images = torch.randn(4, 3, 16, 16)
    assert torch.allclose(reference(images), ours(images), atol=1e-5)
