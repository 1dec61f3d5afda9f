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
from dia_repro.training.own_state import UnstorableStateError
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


class Counted(nn.BatchNorm1d):
    """A BN that keeps the mean of each batch, too."""

    seen: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("seen", torch.zeros(0, channels))

    def forward(self, pooled: Tensor) -> Tensor:
        if self.training:
            self.seen = torch.cat((self.seen, pooled.detach().mean(0, keepdim=True)))
        return super().forward(pooled)


class Normalising(nn.Module):
    """One with a BN that has a buffer more, and with buffers that checkpoints would leave out."""

    scale: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = Counted(channels)
        self.register_buffer("scale", torch.ones(channels), persistent=False)

    def forward(self, pooled: Tensor, state: Any = None) -> Any:
        if self.training:
            self.scale = self.scale * 0.99
        return (self.scale * self.norm(pooled) + self.norm.seen.sum(0)).sigmoid(), state


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


class Tied(nn.Module):
    """One whose two layers have one weight."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.second.weight = self.first.weight

    def forward(self, pooled: Tensor, state: Any = None) -> Any:
        return self.second(self.first(pooled).relu()).sigmoid(), state


UNITS = {"tied": Tied, "counting": Counting, "own-bn": Normalising, "growing": Growing}


def trainer(kind: str, *, validated: bool = False) -> Trainer:
    register_attention(kind, shared=True)({**UNITS, **REFUSED}[kind])
    spec = validated_spec(epochs=2) if validated else tiny_spec(epochs=2)
    recipe = spec.recipe.model_copy(update={"batch_size": 16})
    model = spec.model.model_copy(update={"attention": parse_attention(kind)})
    data: Dataset = few_digits(5 * 16 + 8, 40)
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


class Plain(nn.Module):
    """One whose buffers are registered by a function."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(channels))
        self.set_up(channels)

    def set_up(self, channels: int) -> None:
        pass

    def forward(self, pooled: Tensor, state: Any = None) -> Any:
        self.change(pooled)
        return (pooled + self.gain).sigmoid(), state

    def change(self, pooled: Tensor) -> None:
        pass


class Twins(Plain):
    def set_up(self, channels: int) -> None:
        zero = torch.zeros(channels)
        self.register_buffer("mean", zero)
        self.register_buffer("count", zero)


class View(Plain):
    def set_up(self, channels: int) -> None:
        stats = torch.zeros(2, channels)
        self.register_buffer("stats", stats)
        self.register_buffer("var", stats[1])


class OfParameter(Plain):
    def set_up(self, channels: int) -> None:
        self.register_buffer("start", self.gain.detach())


class Expanded(Plain):
    def set_up(self, channels: int) -> None:
        self.register_buffer("one", torch.ones(1).expand(channels))


class Extra(Plain):
    def get_extra_state(self) -> int:
        return 1

    def set_extra_state(self, state: int) -> None:
        pass


class Late(Plain):
    def change(self, pooled: Tensor) -> None:
        if not hasattr(self, "mean"):
            self.register_buffer("mean", pooled.detach().mean(0), persistent=False)


class LateModule(Plain):
    def change(self, pooled: Tensor) -> None:
        if not hasattr(self, "linear"):
            self.linear = nn.Linear(pooled.shape[1], 1)


class Joining(Plain):
    now: Tensor

    def set_up(self, channels: int) -> None:
        self.register_buffer("now", torch.zeros(channels))
        self.register_buffer("before", None)

    def change(self, pooled: Tensor) -> None:
        self.before = self.now


class Forgetting(Plain):
    def set_up(self, channels: int) -> None:
        self.norm = nn.BatchNorm1d(channels)

    def change(self, pooled: Tensor) -> None:
        self.norm.running_mean = None


REFUSED = {
    name.lower(): unit
    for name, unit in {
        "Twins": Twins,
        "View": View,
        "OfParameter": OfParameter,
        "Expanded": Expanded,
        "Extra": Extra,
        "Late": Late,
        "LateModule": LateModule,
        "Joining": Joining,
        "Forgetting": Forgetting,
    }.items()
}


@pytest.mark.parametrize("kind", REFUSED)
def test_state_that_a_checkpoint_could_not_restore_is_refused(kind: str) -> None:
    with pytest.raises(UnstorableStateError, match=r"stages\.0\.unit"):
        trainer(kind).run_epoch(lambda steps: steps == 1)


def test_parameters_that_are_one_are_accepted() -> None:
    trained = trainer("tied")
    trained.run_epoch()
    other = trainer("tied")
    other.load_state(loaded(trained.state()))
    assert same(weights(trained), weights(other))
