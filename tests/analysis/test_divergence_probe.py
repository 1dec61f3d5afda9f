"""The initial steps of a training."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from dia_repro.analysis.divergence_probe import InitialSteps, Variation, cut, initial_steps
from dia_repro.data import load
from dia_repro.data.dataset import Dataset
from dia_repro.errors import UsageError
from dia_repro.experiments.names import DataLocation, Init
from dia_repro.experiments.spec import Spec
from dia_repro.training.trainer import Diverged, Trainer
from tests.helpers import tiny_spec

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    found = load(tiny_spec().data, DataLocation(tmp_path_factory.mktemp("data")))
    assert isinstance(found, Dataset)
    return found


def start(
    digits: Dataset, spec: Spec, steps: int = 4, variation: Variation | None = None
) -> InitialSteps:
    return initial_steps(spec, 3, digits, steps, CPU, variation or Variation())


@pytest.mark.slow
def test_losses_of_first_steps_are_those_of_the_run(digits: Dataset) -> None:
    spec = tiny_spec()
    found = start(digits, spec, steps=99)
    trainer = Trainer(spec, 3, digits, CPU)
    epoch = trainer.run_epoch()
    assert len(found.losses) == trainer.steps_per_epoch
    sizes = [spec.recipe.batch_size] * (len(found.losses) - 1)
    sizes.append(len(digits.train) - sum(sizes))
    mean = sum(n * loss for n, loss in zip(sizes, found.losses, strict=True)) / sum(sizes)
    assert mean == pytest.approx(epoch.train_loss, rel=1e-9)
    assert found.diverged_at is None


def test_a_divergence_is_the_last_step_and_the_runs_own(digits: Dataset) -> None:
    spec = tiny_spec(norm=False, lr=1e3)
    found = start(digits, spec)
    with pytest.raises(Diverged) as diverged:
        Trainer(spec, 3, digits, CPU).run_epoch()
    assert found.diverged_at == diverged.value.step == len(found.losses) > 1
    assert all(map(math.isfinite, found.losses[:-1]))


def test_the_spread_is_that_of_the_logits_before_any_step(digits: Dataset) -> None:
    spec = tiny_spec()
    trainer = Trainer(spec, 3, digits, CPU)
    trainer.begin_epoch(0)
    images, _ = next(iter(trainer.batches(0)))
    expected = float(trainer.model(images).detach().std())  # dropout draws as in the first step
    assert start(digits, spec, steps=1).spread == pytest.approx(expected, rel=1e-6)


def test_a_variation_changes_only_what_it_names(digits: Dataset) -> None:
    spec = tiny_spec(norm=False)
    spreads = {init: start(digits, spec, 1, Variation(init=init)).spread for init in Init}
    assert len(set(spreads.values())) == len(Init)
    assert spreads[Init.TORCH] < spreads[Init.XAVIER] < spreads[Init.FAN_IN]
    still = start(digits, tiny_spec(norm=False, lr=0.0), 99)
    assert (still.losses[0], still.spread) == (start(digits, spec, 1).losses[0], spreads[Init.OWN])
    assert max(still.losses) - min(still.losses) < 0.5, "at rate 0 only the batches differ"


def test_classes_are_cut_evenly(digits: Dataset) -> None:
    """A network of as many outputs is trained: with small weights its first loss is their log."""
    spec = tiny_spec()
    found = start(digits, spec, 1, Variation(classes=50))
    assert found.losses[0] == pytest.approx(math.log(50), abs=0.7)
    labels = cut(digits, 10, 50).train.labels
    assert torch.equal(labels // 5, digits.train.labels)
    counts = labels.bincount(minlength=50).view(10, 5)
    assert int((counts.max(1).values - counts.min(1).values).max()) <= 1
    with pytest.raises(UsageError, match="10 classes cannot be cut into 15 of one size"):
        start(digits, spec, 1, Variation(classes=15))
    few = replace(digits, train=replace(digits.train, labels=digits.train.labels.clone()))
    start(few, spec, 1, Variation(classes=20))
    assert torch.equal(few.train.labels, digits.train.labels), "the data themselves are changed"
