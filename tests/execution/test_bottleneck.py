"""Which of data path and training is slower, from given figures."""

from __future__ import annotations

import pytest

from dia_repro.data.throughput import CoreRate
from dia_repro.execution.bottleneck import Balance, is_streamed, with_data_path
from dia_repro.execution.planning import PlannedRun
from dia_repro.experiments.protocols import DATASETS, own_images
from dia_repro.experiments.spec import DataSpec
from tests.helpers import tiny_spec

PACK = "dia-repro data pack imagenet"
PATH, SLOW = "Data path of imagenet:", "the data path is the bottleneck"


def balance(
    per_core: float,
    training: float | None,
    *,
    gain: float | None = 3.1,
    cores: int = 16,
    runs: int = 1,
    device: str = "cuda:0",
    pack: str | None = PACK,
) -> Balance:
    rate = CoreRate(per_core, gain)
    return Balance("imagenet", rate, cores, runs, "resnet50", training, device, pack)


@pytest.mark.parametrize(
    ("one", "bottleneck", "sentence"),
    [
        (
            balance(95, 2300),
            "data",
            (
                f"{PATH} 95 images/s per core × 16 cores = 1,520 images/s; training resnet50 on "
                f"cuda:0 takes 2,300: {SLOW}; '{PACK}' would make it 3.1 times as fast, enough."
            ),
        ),
        (balance(95, 5000), "data", "3.1 times as fast, still not enough."),
        (balance(95, 5000, gain=None, pack=None), "data", f"takes 5,000: {SLOW}."),
        (balance(95, 5000, gain=1.02), "data", f"takes 5,000: {SLOW}."),
        (balance(200, 2300), "training", "takes 2,300: the GPU is the bottleneck."),
        (balance(95, 1500), "even", "neither waits long for the other; 'dia-repro data pack"),
        (balance(95, 400, cores=8, runs=2), "training", "× 8 cores for each of 2 runs = 760"),
        (
            balance(95, 3.04, cores=1, device="cpu"),
            "training",
            (
                "per core × 1 core = 95 images/s; training resnet50 on cpu takes 3 of the "
                "same cores: training is the bottleneck, the data path adds 3.2% to its time."
            ),
        ),
        (balance(95, None, device="cpu"), "training", "; there is no GPU here to keep busy."),
    ],
)
def test_what_is_said(one: Balance, bottleneck: str, sentence: str) -> None:
    assert one.bottleneck == bottleneck
    assert sentence in one.sentence()
    assert one.sentence().endswith(".")


@pytest.mark.parametrize(
    ("data", "streamed"),
    [
        (DATASETS["imagenet"].spec, True),
        (DATASETS["cifar100"].spec, False),
        (DATASETS["digits"].spec, False),
        (own_images("folder:pets", 2, 64, "a" * 64), False),
        (own_images("folder:pets", 2, 65, "a" * 64), True),
        (own_images("packed:pets-256-q90", 2, 224, "a" * 64), True),
    ],
)
def test_what_is_streamed(data: DataSpec, streamed: bool) -> None:
    assert is_streamed(data) is streamed


def test_estimates_count_the_data_path_in() -> None:
    spec = tiny_spec(epochs=3)
    run = PlannedRun(("table5",), 1000, spec, 0, None, seconds=60.0)

    def seconds(supply: float, *, shared: bool) -> float | None:
        (one,) = with_data_path([run], {spec.data: supply}, shared=shared)
        return one.seconds

    assert seconds(100, shared=True) == pytest.approx(60 + 30), "in turn"
    assert seconds(100, shared=False) == 60, "at the same time"
    assert seconds(10, shared=False) == pytest.approx(300)
    assert with_data_path([run], {}, shared=True) == [run]
