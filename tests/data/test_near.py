"""Test images that look like a training image are told, whatever their size and compression."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.photographs import photograph
from dia_repro.data.image_folder import scan
from dia_repro.data.inspection import inspect
from dia_repro.data.near import BYTES, near_pairs, reduced
from tests.helpers import write_folder


def small(images: Iterable[Image.Image]) -> np.ndarray:
    return np.array([np.frombuffer(reduced(image), np.uint8) for image in images])


def pictures(count: int, side: int = 96) -> list[Image.Image]:
    """Photographs of a kind: smooth, with shapes, each different."""
    draw = np.random.default_rng(0)
    coarse = draw.integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)
    return [Image.fromarray(grid).resize((side, side), Image.Resampling.BICUBIC) for grid in coarse]


def compressed(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def test_copies_of_another_size_and_compression_are_found() -> None:
    train = pictures(300)
    test = [
        train[7].resize((64, 64)),
        pictures(400)[350],
        compressed(train[200], 40),
        compressed(train[3].resize((200, 200)), 60),
        train[9].point(lambda value: min(255, value + 8)),
    ]
    assert [*near_pairs(small(train), small(test))] == [(7, 0), (200, 2), (3, 3), (9, 4)]


def test_different_pictures_are_not_near() -> None:
    images = small(pictures(3000, 24))
    assert [*near_pairs(images[:2000], images[2000:])] == []


def test_images_without_contrast_are_not_near() -> None:
    grey = np.full((50, BYTES), 90, np.uint8)
    ramp = np.tile(np.arange(BYTES, dtype=np.uint8) % 9, (50, 1))
    for images in (grey, ramp):
        assert [*near_pairs(images, images)] == []
    assert [*near_pairs(grey[:0], grey)] == []


def test_inspecting_a_folder_names_near_images(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine", {"train": 3, "test": 3}, side=32)
    photographs = [photograph(number, 96, 80) for number in (1, 2)]
    photographs[0].save(folder / "train" / "cat" / "same.png")
    compressed(photographs[0].resize((60, 50)), 50).save(folder / "test" / "cat" / "small.jpg")
    photographs[1].save(folder / "train" / "dog" / "exact.png")
    photographs[1].save(folder / "test" / "dog" / "exact.png")
    found = inspect(scan(folder), tmp_path / "memory")
    assert found.near == (("train/cat/same.png", "test/cat/small.jpg"),)
    assert found.in_both == (("train/dog/exact.png", "test/dog/exact.png"),)
    text = " ".join(found.remarks)
    assert "look like a training image" in text
    assert "1 (train/cat/same.png = test/cat/small.jpg)" in text
