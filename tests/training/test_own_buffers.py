"""Buffers of an own unit, whatever it does with them: a training that resumes goes on the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dia_repro.data.dataset import Dataset
from dia_repro.experiments.attention import parse_attention
from dia_repro.models import register_attention
from dia_repro.training.trainer import Stopped, Trainer
from tests.helpers import few_digits, tiny_spec
from tests.training.test_trainer import CPU, loaded, same, weights
from tests.training.test_validation import validated_spec


class Counting(nn.Module):
    """One that depends on the number of its calls, those of evaluations included."""

    calls: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(channels))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, pooled: Tensor, state: Any = None) -> Any:
        self.calls += 1
        return (0 * pooled + self.gain + 0.3 * self.calls.sin()).sigmoid(), state


class Twins(nn.Module):
    """One whose two buffers begin as one tensor, and go ways of their own in training."""

    mean: Tensor
    count: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(channels))
        zero = torch.zeros(channels)
        self.register_buffer("mean", zero, persistent=False)
        self.register_buffer("count", zero, persistent=False)

    def forward(self, pooled: Tensor, state: Any = None) -> Any:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * pooled.detach().mean(0)
            self.count = self.count + 1
        return (pooled - self.mean + self.gain + self.count.sin()).sigmoid(), state


class Growing(nn.Module):
    """One that has no buffer at first, and whose other one gets longer."""

    mean: Tensor | None
    seen: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", None)
        self.register_buffer("seen", torch.zeros(1, channels))

    def forward(self, pooled: Tensor, state: Any = None) -> Any:
        if self.training:
            mean = pooled.detach().mean(0)
            self.mean = mean if self.mean is None else 0.9 * self.mean + 0.1 * mean
            self.seen = torch.cat((self.seen, mean[None]))[-20:]
        assert self.mean is not None
        return (pooled - self.mean + self.seen.mean(0) + self.gain).sigmoid(), state


UNITS = {"counting": Counting, "twins": Twins, "growing": Growing}


def trainer(kind: str, *, validated: bool) -> Trainer:
    register_attention(kind, shared=True)(UNITS[kind])
    spec = validated_spec(epochs=2) if validated else tiny_spec(epochs=2)
    recipe = spec.recipe.model_copy(update={"batch_size": 16})
    model = spec.model.model_copy(update={"attention": parse_attention(kind)})
    data: Dataset = few_digits(5 * 16 + 9, 40)
    if spec.data.validation:
        data = data.with_validation(spec.data.held_out(len(data.train)))
    return Trainer(spec.model_copy(update={"recipe": recipe, "model": model}), 0, data, CPU)


@pytest.mark.parametrize("kind", UNITS)
@pytest.mark.parametrize("validated", [False, True], ids=["tested", "validated"])
@pytest.mark.parametrize("stop_after", [3, 8], ids=["steps", "part of the evaluation"])
def test_a_training_resumes_with_the_buffers_of_an_own_unit(
    kind: str, validated: bool, stop_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dia_repro.training.trainer.TEST_BATCH", 10)
    whole, first, second = (trainer(kind, validated=validated) for _ in range(3))
    calls = 0

    def stop(_done: int) -> bool:
        nonlocal calls
        calls += 1
        return calls == stop_after

    whole.run_epoch()
    first.run_epoch()
    with pytest.raises(Stopped):
        first.run_epoch(stop)
    second.load_state(loaded(first.state()))
    for trained in (whole, first, second):  # this process goes on, too
        while not trained.finished:
            trained.run_epoch()
    expected, *found = (
        [replace(metrics, seconds=0) for metrics in trained.history]
        for trained in (whole, first, second)
    )
    assert found == [expected, expected]
    assert same(weights(whole), weights(first))
    assert same(weights(whole), weights(second))


@pytest.mark.parametrize("kind", UNITS)
def test_a_trained_network_is_loaded_with_the_buffers_of_an_own_unit(kind: str) -> None:
    trained, other = (trainer(kind, validated=False) for _ in range(2))
    trained.run_epoch()
    other.model.load_state_dict(trained.model.state_dict())
    assert same(weights(trained), weights(other))


def test_a_network_without_the_statistics_of_a_bn_is_refused() -> None:
    trained = trainer("growing", validated=False)
    state = {k: v for k, v in trained.model.state_dict().items() if "running_mean" not in k}
    with pytest.raises(RuntimeError, match="Missing key"):
        trained.model.load_state_dict(state)
