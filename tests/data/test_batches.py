"""Batches: every image once, each with its own crop and flip, the test set as it is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dia_repro.data.augmentation import AUGMENTATIONS, crop, draw, pad
from dia_repro.data.batches import ResidentData
from dia_repro.data.dataset import Dataset, as_images

N, SIZE = 50, 8
CPU = torch.device("cpu")


@pytest.fixture
def dataset() -> Dataset:
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(1, 256, (N + 7, 3, SIZE, SIZE), generator=rng, dtype=torch.uint8)
    labels = torch.arange(N + 7)
    return Dataset(
        name="made",
        train=as_images(pixels[:N], labels[:N]),
        test=as_images(pixels[N:], labels[N:]),
        mean=(0.1, 0.2, 0.3),
        std=(0.5, 0.25, 2.0),
    )


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batches(data: ResidentData, start: int = 0) -> list[tuple[Tensor, Tensor]]:
    return list(data.training_batches(16, seeded(1), seeded(2), start))


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_an_epoch_has_every_image_once_and_a_smaller_last_batch(
    dataset: Dataset, augmentation: str
) -> None:
    epoch = batches(ResidentData(dataset, augmentation, CPU))
    assert [len(labels) for _, labels in epoch] == [16, 16, 16, 2]
    labels = torch.cat([labels for _, labels in epoch])
    assert sorted(labels.tolist()) == list(range(N))
    assert labels.tolist() != list(range(N))


def test_starting_later_gives_the_same_batches(dataset: Dataset) -> None:
    data = ResidentData(dataset, "crop4-flip", CPU)
    whole, rest = batches(data), batches(data, start=2)
    for (images, labels), (again, same) in zip(whole[2:], rest, strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, same)


def test_pixels_are_scaled_and_normalised_by_channel(dataset: Dataset) -> None:
    ((images, labels),) = ResidentData(dataset, "none", CPU).training_batches(
        N, seeded(1), seeded(2)
    )
    raw = dataset.train.pixels[labels].double() / 255
    for channel in range(3):
        expected = (raw[:, channel] - dataset.mean[channel]) / dataset.std[channel]
        assert torch.allclose(images[:, channel].double(), expected, atol=1e-5)


def test_the_test_set_is_whole_in_order_and_never_varied(dataset: Dataset) -> None:
    for augmentation in AUGMENTATIONS:
        data = ResidentData(dataset, augmentation, CPU)
        images = torch.cat([images for images, _ in data.test_batches(3)])
        labels = torch.cat([labels for _, labels in data.test_batches(3)])
        assert torch.equal(labels, dataset.test.labels)
        raw = dataset.test.pixels.float() / 255
        std = torch.tensor(dataset.std).view(1, 3, 1, 1)
        mean = torch.tensor(dataset.mean).view(1, 3, 1, 1)
        assert torch.allclose(images, (raw - mean) / std, atol=1e-5)


@pytest.mark.parametrize("name", ["shift1", "crop4-flip"])
def test_a_crop_is_the_padded_window_mirrored_where_drawn(dataset: Dataset, name: str) -> None:
    augmentation = AUGMENTATIONS[name]
    pixels = dataset.train.pixels
    drawn = draw(augmentation, N, seeded(3))
    index = torch.arange(N).flip(0)
    out = crop(pad(pixels, augmentation), index, drawn, (SIZE, SIZE))
    border = (augmentation.padding,) * 4
    for place, i in enumerate(index.tolist()):
        padded = functional.pad(pixels[i], border)
        top, left = int(drawn.tops[i]), int(drawn.lefts[i])
        window = padded[:, top : top + SIZE, left : left + SIZE]
        expected = window.flip(2) if drawn.flips[i] else window
        assert torch.equal(out[place], expected)


def test_draws_are_per_image_and_cover_their_range() -> None:
    drawn = draw(AUGMENTATIONS["crop4-flip"], 5000, seeded(0))
    assert set(drawn.tops.tolist()) == set(range(9))
    assert set(drawn.lefts.tolist()) == set(range(9))
    assert 0.45 < drawn.flips.float().mean().item() < 0.55
    assert abs(torch.corrcoef(torch.stack([drawn.tops, drawn.lefts]).float())[0, 1]) < 0.05


def test_without_augmentation_nothing_moves() -> None:
    drawn = draw(AUGMENTATIONS["none"], 100, seeded(0))
    assert not drawn.tops.any()
    assert not drawn.lefts.any()
    assert not drawn.flips.any()
