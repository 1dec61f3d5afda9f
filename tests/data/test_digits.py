from __future__ import annotations

from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits as load_sklearn_digits

from dia_repro.data.sources.digits import load_digits


def test_the_split_is_fixed_and_stratified() -> None:
    dataset = load_digits()
    assert (len(dataset.train), len(dataset.test)) == (1442, 355)
    per_class = torch.bincount(dataset.test.labels)
    assert per_class.min() >= 34
    assert per_class.max() <= 36
    known = "b629d018c2b694757710989db9c709b1c5082bcca378dcc6ddb828ea8d0d0634"
    assert dataset.digest() == known


def test_every_image_is_in_one_split_once_and_unchanged() -> None:
    dataset = load_digits()
    original = sorted(
        (image * 15).astype("uint8").tobytes() for image in load_sklearn_digits().images
    )
    both = torch.cat([dataset.train.pixels, dataset.test.pixels])
    assert sorted(image[0].numpy().tobytes() for image in both) == original
    assert torch.equal(both[:, 0], both[:, 1])
    assert torch.equal(both[:, 0], both[:, 2])


def test_the_stated_mean_and_deviation_are_the_training_images() -> None:
    dataset = load_digits()
    scaled = dataset.train.pixels.double() / 255
    assert scaled.mean().item() == pytest.approx(dataset.mean[0], abs=5e-5)
    assert scaled.std(unbiased=False).item() == pytest.approx(dataset.std[0], abs=5e-5)


def test_a_scikit_learn_without_the_file_gives_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packaged = load_digits()
    monkeypatch.setattr(PathDistribution, "locate_file", lambda *_: Path("/nowhere"))
    assert load_digits().digest() == packaged.digest()
