"""Training by hand-written passes against the plain modules, whose figures they must give."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dia_repro.data.sources.digits import load_digits
from dia_repro.experiments.spec import DIALSTMAttention, ModelSpec
from dia_repro.models import fast, from_spec
from dia_repro.models.fast import kernels
from dia_repro.models.network import StagedNetwork
from dia_repro.training.numerics import use_threads
from dia_repro.training.trainer import Trainer
from tests.helpers import clean_environment, tiny_spec
from tests.models.test_families import ATTENTIONS, BACKBONES

ROOT = Path(__file__).parents[2]
B, C, SIDE = 5, 12, 7
Passes = Callable[[Tensor, nn.BatchNorm2d, Tensor | None, Tensor], Tensor]


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def results(relu: bool, skip: bool, attention: bool, *, use_fast: bool) -> dict[str, Tensor]:
    """Output, gradients and running statistics; plain ones in float64."""
    torch.manual_seed(0)
    u, x, g = torch.randn(3, B, C, SIDE, SIDE)
    u = 3 * u + 5  # a mean that is large against the deviation
    weight, bias, mix = torch.rand(C) + 0.5, torch.randn(C), torch.randn(C, C)
    dtype = torch.float32 if use_fast else torch.float64
    bn = nn.BatchNorm2d(C).to(dtype)
    with torch.no_grad():
        bn.weight.copy_(weight)
        bn.bias.copy_(bias)
    u, x, mix = (t.to(dtype).requires_grad_() for t in (u, x, mix))
    carried = channels_last(x) if skip else None
    if use_fast and attention:
        recalibration = fast.Recalibration(channels_last(u), bn)
        y = recalibration.add((recalibration.pooled @ mix).sigmoid(), carried, relu=relu)
    elif use_fast:
        y = fast.norm_add(channels_last(u), bn, carried, relu=relu)
    else:
        y = bn(u)
        if attention:
            y = y * (y.mean((2, 3)) @ mix).sigmoid()[:, :, None, None]
        y = y if carried is None else y + carried
        y = y.relu() if relu else y
    y.backward(g.to(dtype))
    parts = {"y": y, "u": u.grad, "weight": bn.weight.grad, "bias": bn.bias.grad}
    parts |= {"running_mean": bn.running_mean, "running_var": bn.running_var}
    parts |= {"x": x.grad} if skip else {}
    parts |= {"mix": mix.grad} if attention else {}
    return {name: part.detach().double() for name, part in parts.items() if part is not None}


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("attention", [True, False])
def test_outputs_gradients_and_statistics_are_the_plain_ones(
    relu: bool, skip: bool, attention: bool
) -> None:
    plain = results(relu, skip, attention, use_fast=False)
    ours = results(relu, skip, attention, use_fast=True)
    assert set(plain) == set(ours)
    assert len(plain) == 6 + skip + attention
    for name, expected in plain.items():
        assert (ours[name] - expected).abs().max() < 2e-5 * expected.abs().max(), name


@pytest.mark.parametrize(
    ("family", "kind"),
    [*((family, "dia-lstm") for family in BACKBONES), ("resnet", "none"), ("preresnet", "se")],
)
def test_every_familys_loss_is_the_plain_one(family: str, kind: str) -> None:
    torch.manual_seed(0)
    spec = ModelSpec(backbone=BACKBONES[family], attention=ATTENTIONS[kind])
    plain = from_spec(spec, 7).to(memory_format=torch.channels_last)
    other = copy.deepcopy(plain)
    other.use_fast()
    images = channels_last(torch.randn(8, 3, 32, 32))
    losses = []
    for network in (plain, other):
        torch.manual_seed(1)  # dropout
        losses.append(functional.cross_entropy(network(images), torch.arange(8) % 7))
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=2e-4)
    assert losses[1].grad_fn is not None
    losses[1].backward()
    assert all(parameter.grad is not None for parameter in other.parameters())


def first_losses(count: int, *, use_fast: bool) -> list[float]:
    # At a rate of 0.01 rounding alone drives two trainings apart: 0.2 % after fifty steps, be it
    # the fast passes' rounding or that of another memory layout.
    spec = tiny_spec(attention=DIALSTMAttention(), epochs=9, lr=0.0003)
    recipe = spec.recipe.model_copy(update={"batch_size": 16})
    spec = spec.model_copy(update={"recipe": recipe})
    trainer = Trainer(spec, 0, load_digits(), torch.device("cpu"))
    assert isinstance(trainer.model, StagedNetwork)
    trainer.model.use_fast(use_fast)
    losses: list[float] = []
    epoch = 0
    while len(losses) < count:
        for images, labels in trainer.batches(epoch):
            trainer.step.tally.clear()
            trainer.step.train(images, labels)
            losses.append(trainer.step.tally.read().loss)
        epoch += 1
    return losses[:count]


@pytest.mark.slow
def test_fifty_steps_have_the_plain_ones_losses() -> None:
    plain, ours = (first_losses(50, use_fast=yes) for yes in (False, True))
    assert plain != ours
    assert ours == pytest.approx(plain, rel=1e-4)


def test_training_on_a_cpu_takes_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = fast.Recalibration

    def counted(u: Tensor, bn: nn.BatchNorm2d) -> fast.Recalibration:
        seen.append(u.numel())
        return real(u, bn)

    monkeypatch.setattr(fast, "Recalibration", counted)
    first_losses(1, use_fast=True)
    assert seen


@pytest.mark.parametrize(
    ("family", "kind"),
    [*((family, "dia-lstm") for family in BACKBONES), ("resnet", "none"), ("preresnet", "se")],
)
def test_evaluation_gives_the_plain_logits_and_moves_nothing(family: str, kind: str) -> None:
    torch.manual_seed(0)
    spec = ModelSpec(backbone=BACKBONES[family], attention=ATTENTIONS[kind])
    network = from_spec(spec, 7).to(memory_format=torch.channels_last)
    images = channels_last(torch.randn(8, 3, 32, 32))
    network(images)  # running statistics that are not the first ones
    network.eval()
    before = copy.deepcopy(network.state_dict())
    with torch.no_grad():
        plain = network(images)
        network.use_fast()
        ours = network(images)
    assert not torch.equal(ours, plain)  # it did go the other way
    assert torch.allclose(ours, plain, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(now, before[name]) for name, now in network.state_dict().items())


def test_gradients_in_evaluation_are_autograds_own() -> None:
    """The backward passes are those of training."""
    network = from_spec(ModelSpec(backbone=BACKBONES["resnet"], attention=DIALSTMAttention()), 7)
    images = channels_last(torch.randn(4, 3, 8, 8))
    network.use_fast()
    network.eval()
    evaluated = network(images)
    network.use_fast(False)
    assert torch.equal(network(images), evaluated)


@pytest.mark.parametrize("needs", [True, False])
@pytest.mark.parametrize(
    ("convolution", "side", "own"),
    [
        (nn.Conv2d(40, 16, 1, bias=False), 32, True),
        (nn.Conv2d(40, 7, 1, bias=False), 33, True),
        (nn.Conv2d(40, 16, 1, bias=False), 31, False),
        (nn.Conv2d(40, 16, 1), 32, False),
        (nn.Conv2d(40, 16, 1, stride=2, bias=False), 32, False),
        (nn.Conv2d(40, 16, 3, padding=1, bias=False), 32, False),
        (nn.Conv2d(40, 8, 1, groups=2, bias=False), 32, False),
        (nn.Conv2d(16, 16, 1, bias=False), 32, False),
    ],
)
def test_convolutions_to_few_channels_have_the_plain_gradients(
    convolution: nn.Conv2d, side: int, own: bool, needs: bool
) -> None:
    torch.manual_seed(0)
    images = channels_last(torch.randn(3, convolution.in_channels, side, side))
    exact = copy.deepcopy(convolution).double()
    x, double = images.requires_grad_(needs), images.detach().double().requires_grad_(needs)
    y, expected = fast.run([convolution], x), exact(double)
    assert (type(y.grad_fn).__name__ == "_NarrowBackward") is own
    g = torch.randn_like(y)
    y.backward(g)
    expected.backward(g.double())
    torch.testing.assert_close(y, expected.float(), rtol=1e-5, atol=1e-5)
    for ours, plain in ((convolution.weight, exact.weight), (x, double)):
        assert (ours.grad is None) is (plain.grad is None)
        if ours.grad is not None and plain.grad is not None:
            torch.testing.assert_close(ours.grad, plain.grad.float(), rtol=1e-5, atol=1e-4)
    convolution.zero_grad()


@pytest.mark.parametrize("relu", [True, False])
def test_what_is_not_finite_goes_through(relu: bool) -> None:
    u = torch.randn(2, 3, 4, 4).requires_grad_()
    with torch.no_grad():
        u[0, 1, 2, 3] = float("nan")
    y = fast.norm_add(channels_last(u), nn.BatchNorm2d(3), None, relu=relu)
    assert y[:, 1].isnan().all()
    assert y[:, [0, 2]].isfinite().all()
    y.sum().backward()
    assert u.grad is not None
    assert u.grad[:, 1].isnan().all()


def test_the_number_of_threads_changes_nothing() -> None:
    threads, wide = torch.get_num_threads(), 64
    u, x, g = map(channels_last, torch.randn(3, B, wide, 16, 16))
    assert u.numel() >= kernels.LEAST_FOR_THREADS
    found = []
    try:
        for count in (1, 2):
            use_threads(count)
            bn, v = nn.BatchNorm2d(wide), u.clone().requires_grad_()
            y = fast.norm_add(v, bn, x, relu=True)
            y.backward(g)
            found.append((y, v.grad, bn.weight.grad, bn.bias.grad, bn.running_mean))
    finally:
        use_threads(threads)
    for single, many in zip(*found, strict=True):
        assert single is not None
        assert many is not None
        assert torch.equal(single, many)


TRAIN_ONE_EPOCH = """
import torch
from dia_repro.training.numerics import prepare_process
prepare_process(1, torch.device("cpu"))
from dia_repro.data.sources.digits import load_digits
from dia_repro.training.trainer import Trainer
from tests.helpers import tiny_spec
print(Trainer(tiny_spec(), 0, load_digits(8), torch.device("cpu")).run_epoch().train_loss)
"""


@pytest.mark.exhaustive
def test_a_first_run_that_compiles_gives_what_later_ones_give(tmp_path: Path) -> None:
    def figures() -> str:
        environment = clean_environment(PYTHONPATH=str(ROOT), NUMBA_CACHE_DIR=str(tmp_path))
        return subprocess.run(
            [sys.executable, "-c", TRAIN_ONE_EPOCH],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    fresh = figures()
    assert list(tmp_path.rglob("*.nbc")), "nothing was kept on disk"
    assert figures() == fresh
