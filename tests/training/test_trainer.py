"""The loop: its figures, its randomness, resuming, divergences."""

from __future__ import annotations

import io
import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from dia_repro.data.batches import ResidentData
from dia_repro.data.sources.digits import load_digits
from dia_repro.experiments.spec import NoAttention, RecipeSpec
from dia_repro.training.numerics import PrecisionError
from dia_repro.training.seeding import derive_seed, generator, global_seed, seed_globally
from dia_repro.training.trainer import Diverged, Stopped, Trainer
from tests.helpers import few_digits, tiny_spec

CPU = torch.device("cpu")


def trainer(seed: int = 0, **options: object) -> Trainer:
    return Trainer(tiny_spec(**options), seed, load_digits(), CPU)  # type: ignore[arg-type]


def short(seed: int = 0) -> Trainer:
    """Epochs of twelve small steps, the last of them smaller."""
    spec = tiny_spec()
    recipe = spec.recipe.model_copy(update={"batch_size": 16})
    return Trainer(
        spec.model_copy(update={"recipe": recipe}), seed, few_digits(11 * 16 + 9, 40), CPU
    )


def weights(trained: Trainer) -> list[torch.Tensor]:
    return [value.clone() for value in trained.model.state_dict().values()]


def same(some: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(some, other, strict=True))


def test_a_tiny_network_learns() -> None:
    trained = trainer(lr=0.05)
    while not trained.finished:
        trained.run_epoch()
    assert [m.epoch for m in trained.history] == [1, 2, 3]
    assert [m.lr for m in trained.history] == pytest.approx([0.05, 0.05, 0.005])
    assert trained.history[-1].train_loss < trained.history[0].train_loss
    assert (trained.history[-1].test_top1 or 0.0) > 60


def test_test_metrics_cover_the_whole_test_set() -> None:
    trained = trainer()
    metrics = trained.run_epoch()
    test = load_digits().test
    mean, std = 0.2872, 0.3540
    trained.model.eval()
    with torch.no_grad():
        logits = trained.model((test.pixels.float() / 255 - mean) / std)
    correct = (logits.argmax(1) == test.labels).sum().item()
    assert metrics.test_top1 == pytest.approx(100 * correct / 355)
    assert metrics.test_loss == pytest.approx(
        functional.cross_entropy(logits, test.labels).item(), rel=1e-4
    )


def test_a_step_is_sgd_with_momentum_and_decay_on_every_parameter() -> None:
    """Two steps by hand: v ← 0.9 v + (g + decay w); w ← w - lr v; BN and biases too."""
    trained = trainer(weight_decay=0.1)
    trained.step.set_rate(0.05)
    trained.model.train()
    images, labels = torch.randn(8, 3, 8, 8), torch.arange(8)
    velocity = [torch.zeros_like(p) for p in trained.model.parameters()]
    for _ in range(2):
        before = [p.detach().clone() for p in trained.model.parameters()]
        with torch.random.fork_rng():
            loss = functional.cross_entropy(trained.model(images), labels)
        gradients = torch.autograd.grad(loss, list(trained.model.parameters()))
        trained.step.train(images, labels)
        for k, p in enumerate(trained.model.parameters()):
            velocity[k] = 0.9 * velocity[k] + gradients[k] + 0.1 * before[k]
            assert torch.allclose(p, before[k] - 0.05 * velocity[k], atol=1e-6)


def test_same_seed_same_weights_other_seed_others() -> None:
    first, again, other = short(0), short(0), short(1)
    assert same(weights(first), weights(again))
    assert not same(weights(first), weights(other))
    for each in (first, again, other):
        each.run_epoch()
    assert same(weights(first), weights(again))
    assert first.history[0].train_loss == again.history[0].train_loss
    assert first.history[0].train_loss != other.history[0].train_loss


def test_order_and_augmentation_differ_by_epoch() -> None:
    trained = trainer()
    first, again, second = (list(trained.batches(epoch)) for epoch in (0, 0, 1))
    for (images, labels), (same_images, same_labels) in zip(first, again, strict=True):
        assert torch.equal(images, same_images)
        assert torch.equal(labels, same_labels)
    assert not torch.equal(first[0][1], second[0][1])
    assert isinstance(trained.data, ResidentData)
    trained.data.labels = torch.arange(len(trained.data.labels))  # to see which image is which
    by_image = [{}, {}]  # type: list[dict[int, torch.Tensor]]
    for epoch in (0, 1):
        for images, index in trained.batches(epoch):
            by_image[epoch] |= dict(zip(index.tolist(), images, strict=True))
    moved = sum(not torch.equal(by_image[0][i], by_image[1][i]) for i in by_image[0])
    assert moved > len(by_image[0]) / 2


def test_other_random_draws_do_not_matter() -> None:
    first, again = short(), short()
    first.run_epoch()
    first.run_epoch()
    torch.manual_seed(12345)
    again.run_epoch()
    torch.rand(77)
    again.run_epoch()
    assert same(weights(first), weights(again))


def draws_in(*trainers: Trainer) -> list[tuple[float, float, float]]:
    """What a forward pass of the trainers could draw, from now on."""
    found: list[tuple[float, float, float]] = []

    def draw(*_: object) -> None:
        found.append((np.random.rand(), np.random.randn(), random.gauss()))

    for trained in trainers:
        trained.model.register_forward_hook(draw)
    return found


def loaded(state: dict[str, Any]) -> dict[str, Any]:
    """The state from a checkpoint's bytes."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return dict(torch.load(buffer, weights_only=True))


@pytest.mark.parametrize(
    "stop_at",
    [
        5,
        pytest.param(11, marks=pytest.mark.slow),
        pytest.param(1, marks=pytest.mark.exhaustive),
    ],
)
def test_a_resumed_training_equals_the_uninterrupted_one(
    stop_at: int,
) -> None:
    """With the draws of a unit of one's own from NumPy's and Python's generators."""
    whole, first, second = short(), short(), short()
    drawn, expected = draws_in(first, second), draws_in(whole)
    for _ in range(3):
        whole.run_epoch()
    first.run_epoch()
    with pytest.raises(Stopped):
        first.run_epoch(lambda steps: steps == stop_at)
    state = first.state()
    seed_globally(99, "others")
    second.load_state(loaded(state))
    while not second.finished:
        second.run_epoch()
    assert same(weights(whole), weights(second))
    assert drawn == expected
    figures = [(m.train_loss, m.train_top1, m.test_loss, m.test_top1) for m in whole.history]
    assert figures == [
        (m.train_loss, m.train_top1, m.test_loss, m.test_top1) for m in second.history
    ]


def test_an_evaluation_that_is_stopped_draws_the_same_again() -> None:
    """For a unit of one's own whose forward pass draws from torch, NumPy and Python."""
    trained = trainer()
    draw: list[tuple[float, float, float]] = []

    def forward(*_: object) -> None:
        draw.append((torch.rand(()).item(), np.random.rand(), random.random()))

    def stop() -> None:
        raise Stopped

    trained.model.register_forward_hook(forward)
    for _ in range(2):
        with pytest.raises(Stopped):
            trained.evaluate(stop)
    assert draw[0] == draw[1]


def test_a_divergence_ends_at_the_first_loss_that_is_not_finite() -> None:
    trained = trainer(lr=1e6, norm=False, attention=NoAttention(), milestones=())
    steps = []

    def on_step(step: int) -> bool:
        steps.append(step)
        return False

    with pytest.raises(Diverged) as outcome:
        trained.run_epoch(on_step)
    assert not math.isfinite(outcome.value.loss)
    assert outcome.value.step == len(steps) + 1
    assert outcome.value.epoch == 1
    assert not trained.history


def test_a_weight_that_diverges_in_the_last_step_is_noticed() -> None:
    trained = trainer()
    parameter = next(trained.model.parameters())

    def on_step(step: int) -> bool:
        if step == trained.steps_per_epoch:
            with torch.no_grad():
                parameter[0] = float("inf")
        return False

    with pytest.raises(Diverged):
        trained.run_epoch(on_step)


def test_a_rate_that_is_tiny_is_no_divergence() -> None:
    assert trainer(lr=0.0).run_epoch().train_loss > 0


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_a_cpu_refuses_other_precisions(precision: str) -> None:
    spec = tiny_spec().model_copy(update={"precision": precision})
    with pytest.raises(PrecisionError, match="--precision fp32"):
        Trainer(spec, 0, load_digits(), CPU)


def test_the_rate_falls_at_the_milestones() -> None:
    recipe = RecipeSpec(
        epochs=180,
        batch_size=128,
        lr=0.1,
        momentum=0.9,
        weight_decay=1e-4,
        milestones=(60, 120),
        gamma=0.1,
    )
    rates = [recipe.rate_in(epoch) for epoch in (0, 59, 60, 119, 120, 179)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_seeds_differ_by_seed_purpose_and_epoch_and_are_stable() -> None:
    seeds = {
        derive_seed(seed, purpose, epoch)
        for seed in range(5)
        for purpose in ("order", "variation", "weights", "dropout")
        for epoch in range(5)
    }
    assert len(seeds) == 100
    assert derive_seed(0, "order", 0) == 3955691223199900983


def test_global_seed_leaves_the_global_state_as_it_was() -> None:
    def draw() -> tuple[float, ...]:
        return float(torch.rand(())), np.random.rand(), random.random()

    seed_globally(5, "others")
    expected = draw()
    seed_globally(5, "others")
    with global_seed(0, "weights"):
        inner = draw()
    assert draw() == expected
    with global_seed(0, "weights"):
        assert draw() == inner
    drawn = torch.rand(3, generator=generator(0, "order"))
    assert torch.equal(drawn, torch.rand(3, generator=generator(0, "order")))


@pytest.mark.parametrize(
    "batches", [2, *(pytest.param(count, marks=pytest.mark.slow) for count in (1, 4))]
)
def test_a_stop_in_the_evaluation_changes_nothing(
    batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dia_repro.training.trainer.TEST_BATCH", 10)  # four of them
    whole, first, second = short(), short(), short()
    asked = 0

    def on_step(done: int) -> bool:
        nonlocal asked
        asked += done == first.steps_per_epoch  # the first time after the last step
        return asked == 1 + batches

    with pytest.raises(Stopped):
        first.run_epoch(on_step)
    assert (first.history, first.position) == ([], first.steps_per_epoch)
    second.load_state(first.state())
    for trained in (whole, second):
        trained.run_epoch()
        trained.run_epoch()
    expected, found = (
        [replace(m, seconds=0) for m in trained.history] for trained in (whole, second)
    )
    assert found == expected
    assert same(weights(whole), weights(second))
