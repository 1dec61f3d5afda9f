"""Limit of training on streamed images: its measurement, and its sentence in the plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.photographs import write_photographs
from dia_repro.data import DataError, known_data, own_images
from dia_repro.data.registry import is_streamed
from dia_repro.execution.bottleneck import (
    DataLimit,
    data_limits,
    decoded_per_second,
    with_decoding,
)
from dia_repro.execution.machine import Machine
from dia_repro.execution.planning import PlannedRun
from dia_repro.experiments.names import DataLocation
from dia_repro.experiments.spec import DataSpec
from tests.helpers import choose, tiny_spec

PACK = "dia-repro data pack imagenet"
LIMIT = DataLimit("imagenet", 1520.0, 16, "resnet50", 2300.0, "cuda:0", PACK)


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        (
            LIMIT,
            (
                "Data: 16 cores decode 1,520 images/s of imagenet, resnet50 trains on 2,300 on "
                f"cuda:0: the data limit; '{PACK}' makes decoding faster."
            ),
        ),
        (
            replace(LIMIT, trained=600.0),
            (
                "Data: 16 cores decode 1,520 images/s of imagenet, resnet50 trains on 600 on "
                "cuda:0: the training step limits."
            ),
        ),
        (replace(LIMIT, pack=None), "on cuda:0: the data limit."),
        (
            replace(LIMIT, cores=1, decoded=9.5, trained=None),
            "Data: 1 core decodes 9.5 images/s of imagenet.",
        ),
    ],
)
def test_one_sentence_says_what_limits(limit: DataLimit, sentence: str) -> None:
    assert limit.sentence().endswith(sentence)


@pytest.mark.parametrize(
    ("data", "streamed"),
    [
        (known_data("imagenet").spec, True),
        (known_data("cifar100").spec, False),
        (known_data("digits").spec, False),
        (own_images("folder:pets", 2, 64, "a" * 64), False),
        (own_images("folder:pets", 2, 65, "a" * 64), True),
        (own_images("packed:pets-256-q90", 2, 224, "a" * 64), True),
    ],
)
def test_images_beyond_64_pixels_are_streamed(data: DataSpec, streamed: bool) -> None:
    assert is_streamed(data) is streamed


def test_estimates_count_the_decoding_in() -> None:
    spec = tiny_spec(epochs=3)
    run = PlannedRun(("table5",), 1000, spec, 0, None, seconds=60.0)

    def seconds(supply: float, *, shared: bool) -> float | None:
        (estimated,) = with_decoding(
            [run], {spec.data: replace(LIMIT, decoded=supply)}, shared=shared
        )
        return estimated.seconds

    assert seconds(100, shared=True) == pytest.approx(60 + 30), "in turn"
    assert seconds(100, shared=False) == 60, "at the same time"
    assert seconds(10, shared=False) == pytest.approx(300)
    assert with_decoding([run], {}, shared=True) == [run]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_photographs(tmp_path / "pets", 6, 2, 2)
    return tmp_path / "pets"


def test_decoding_rate_is_measured_on_local_images(images: Path, tmp_path: Path) -> None:
    data = choose(images, 96, tmp_path / "data").spec
    assert 1 < decoded_per_second(data, DataLocation(tmp_path / "data", images)) < 10_000
    with pytest.raises(DataError):
        decoded_per_second(known_data("imagenet").spec, DataLocation(tmp_path))


def test_only_streamed_data_have_a_limit(images: Path, tmp_path: Path) -> None:
    location = DataLocation(tmp_path / "data", images)
    spec = tiny_spec(epochs=3)
    streamed = spec.model_copy(update={"data": choose(images, 96, location.root).spec})
    held, run = (
        PlannedRun(("table5",), 1000, trained, 0, None, seconds=60.0)
        for trained in (spec, streamed)
    )
    limits = data_limits([held, run], Machine(("cpu",), 2), 1, location)
    assert [*limits] == [streamed.data]
    (limit,) = limits.values()
    assert limit.trained == pytest.approx(1000 * 3 / 60)
    assert limit.pack == f"dia-repro data pack folder:{images}"
    assert data_limits([held], Machine(("cpu",), 2), 1, location) == {}
