"""Training images held out for validation choose the epoch, and the test set is read once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from dia_repro.data import known_data, load
from dia_repro.data.dataset import Batch, Dataset, StreamedDataset
from dia_repro.data.registry import DataError
from dia_repro.data.sources.digits import load_digits
from dia_repro.experiments.names import DataLocation, SelectOn
from dia_repro.experiments.protocols import Request, choose_data
from dia_repro.experiments.spec import Spec
from dia_repro.training.metrics import EpochMetrics, chosen_epoch
from dia_repro.training.trainer import Stopped, Trainer
from tests.helpers import choose, few_digits, tiny_spec, write_folder

CPU = torch.device("cpu")


def validated_spec(**options: Any) -> Spec:
    spec = tiny_spec(**options)
    return spec.model_copy(update={"data": spec.data.model_copy(update={"validation": 10})})


def trainer(spec: Spec, training: int = 400) -> Trainer:
    dataset: Dataset = few_digits(training, 100)
    if spec.data.validation:
        dataset = dataset.with_validation(spec.data.held_out(training))
    return Trainer(spec, 0, dataset, CPU)


def copied(trained: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trained.model.state_dict().items()}


def same(some: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(some[name], other[name]) for name in some | other)


def test_a_spec_without_validation_keeps_its_id() -> None:
    spec, validated = tiny_spec(), validated_spec()
    assert "validation" not in spec.canonical_json()
    assert '"validation":10' in validated.canonical_json()
    assert spec.spec_id != validated.spec_id
    for known in (spec, validated):
        assert Spec.from_json(known.canonical_json()) == known


def test_five_thousand_images_of_cifar_are_held_out() -> None:
    cifar = known_data("cifar100")
    model = tiny_spec().model
    chosen = choose_data(model, "cifar100", Request("paper", select=SelectOn.VALIDATION))  # type: ignore[arg-type]
    assert (cifar.training_images, chosen.training_images) == (50_000, 45_000)
    assert chosen.spec.held_out(50_000) == 5_000


def test_images_held_out_are_not_trained_on() -> None:
    spec = validated_spec()
    whole = load_digits()
    first, again = (load(spec.data, DataLocation(root=None)) for _ in range(2))  # type: ignore[arg-type]
    assert isinstance(first, Dataset)
    assert isinstance(again, Dataset)
    assert first.validation is not None
    assert again.validation is not None
    assert len(first.validation) == 144
    assert len(first.train) == 1442 - 144
    assert torch.equal(first.test.pixels, whole.test.pixels)
    assert torch.equal(first.validation.pixels, again.validation.pixels)
    both = torch.cat([first.train.pixels, first.validation.pixels]).flatten(1).numpy()
    expected = whole.train.pixels.flatten(1).numpy()
    order = [np.lexsort(rows.T) for rows in (both, expected)]
    assert np.array_equal(both[order[0]], expected[order[1]])


def test_too_few_images_to_hold_some_out_are_refused(tmp_path: Any) -> None:
    folder = write_folder(tmp_path / "mine", {"train": 4, "test": 2})
    choice = choose(folder, 32, tmp_path / "data").with_validation(10)
    with pytest.raises(DataError, match="8 training images are too few"):
        load(choice.spec, DataLocation(tmp_path / "data", folder))


def test_streamed_images_held_out_are_shown_as_test_images_are(tmp_path: Any) -> None:
    from dia_repro.data.streaming import StreamedData

    folder = write_folder(tmp_path / "mine", {"train": 20, "test": 2}, side=80)
    choice = choose(folder, 72, tmp_path / "data").with_validation(10)
    dataset = load(choice.spec, DataLocation(tmp_path / "data", folder))
    assert isinstance(dataset, StreamedDataset)
    assert dataset.validation is not None
    assert len(dataset.train) == 36
    held_out = dataset.validation
    as_test = StreamedDataset("a", dataset.train, held_out, 72, "0")
    for data, of in ((dataset, "validation"), (as_test, "test")):
        batches = list(StreamedData(data, "none", CPU, 0).test_batches(3, of=of))  # type: ignore[arg-type]
        pixels, labels = (torch.cat(part) for part in zip(*batches, strict=True))
        assert labels.tolist() == held_out.labels.tolist()
        if of == "validation":
            shown = pixels
    assert torch.equal(shown, pixels)


def test_the_epoch_that_validates_best_is_tested() -> None:
    spec = validated_spec(epochs=4, lr=0.05, milestones=(3,))
    worse_at_the_end = spec.recipe.model_copy(update={"gamma": 30.0})
    trained = trainer(spec.model_copy(update={"recipe": worse_at_the_end}))
    evaluated: dict[tuple[int, str], dict[str, torch.Tensor]] = {}
    original = trained.data.test_batches

    def watched(*arguments: Any) -> Iterator[Batch]:
        evaluated[len(trained.history) + 1, arguments[2]] = copied(trained)
        return original(*arguments)

    trained.data.test_batches = watched  # type: ignore[method-assign, assignment]
    while not trained.finished:
        trained.run_epoch()
    assert [*evaluated] == [*((epoch, "validation") for epoch in range(1, 5)), (4, "test")]
    assert [epoch.test_top1 for epoch in trained.history[:3]] == [None] * 3
    best = chosen_epoch(trained.history)
    accuracies = [epoch.validation_top1 or 0.0 for epoch in trained.history]
    assert best == 1 + accuracies.index(max(accuracies))
    assert best < 4, "the last epoch would show nothing"
    assert same(evaluated[4, "test"], evaluated[best, "validation"])
    assert same(copied(trained), evaluated[4, "validation"]), "the weights of the last epoch stay"
    trained.model.load_state_dict(evaluated[best, "validation"], strict=False)
    trained.model.eval()
    images, labels = next(iter(original(512)))
    right = (trained.model(images).argmax(1) == labels).float().mean().item()
    assert trained.history[-1].test_top1 == pytest.approx(100 * right)


@pytest.mark.parametrize("stopped", [1, 2])
def test_a_run_stopped_while_it_evaluates_resumes_to_the_same(stopped: int) -> None:
    """Stopped after a batch of the images held out, or after one of the test set."""
    spec = validated_spec(epochs=2, lr=0.1, milestones=())
    whole, parted = trainer(spec), trainer(spec)
    for _ in range(2):
        whole.run_epoch()
    parted.run_epoch()
    before, calls = parted.steps_per_epoch, []

    def stop(step: int) -> bool:
        calls.append(step)
        return len(calls) == before + stopped

    with pytest.raises(Stopped):
        parted.run_epoch(stop)
    assert len(parted.history) == 1
    resumed = trainer(spec)
    resumed.load_state(parted.state())
    resumed.run_epoch()

    def metrics(trained: Trainer) -> list[tuple[Any, ...]]:
        return [
            (e.train_loss, e.train_top1, e.test_loss, e.test_top1, e.validation_loss)
            for e in trained.history
        ]

    assert metrics(resumed) == metrics(whole)
    assert same(copied(resumed), copied(whole))


def test_without_validation_the_test_set_chooses() -> None:
    def epoch(number: int, test: float | None, validation: float | None = None) -> EpochMetrics:
        return EpochMetrics(number, 0.1, 1.0, 50.0, 1.0, test, 1.0, None, validation)

    assert chosen_epoch([]) is None
    assert chosen_epoch([epoch(1, 50.0), epoch(2, 60.0), epoch(3, 60.0)]) == 2
    assert chosen_epoch([epoch(1, math.nan), epoch(2, 10.0)]) == 2
    assert chosen_epoch([epoch(1, None, 70.0), epoch(2, 90.0, 60.0)]) == 1
