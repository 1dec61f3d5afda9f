"""The protocols against the paper."""

from __future__ import annotations

from pathlib import Path

import pytest

from dia_repro.data import load
from dia_repro.errors import UsageError
from dia_repro.experiments.names import Precision, Protocol
from dia_repro.experiments.protocols import (
    DATASETS,
    TRAINING_IMAGES,
    Request,
    make_spec,
    paper_recipe,
)
from dia_repro.experiments.spec import ModelSpec, NoAttention, ResNetBackbone
from dia_repro.paper import hyperparameters

MODEL = ModelSpec(backbone=ResNetBackbone(depth=83), attention=NoAttention())


@pytest.mark.parametrize("network", list(hyperparameters()))
def test_paper_recipes_are_tables_10_and_11_field_by_field(network: str) -> None:
    paper, recipe = hyperparameters()[network], paper_recipe(network)
    assert recipe.epochs == paper.epochs
    assert recipe.batch_size == paper.batch_size
    assert recipe.lr == paper.lr
    assert recipe.momentum == paper.momentum
    assert recipe.weight_decay == paper.weight_decay
    assert recipe.milestones == paper.schedule
    assert recipe.gamma == paper.gamma


def test_the_paper_protocol_trains_on_the_papers_data_with_crop_and_flip() -> None:
    spec = make_spec(MODEL, "ResNet164", "cifar100", Request(Protocol.PAPER, Precision.TF32))
    assert spec.data == DATASETS["cifar100"]
    assert (spec.data.classes, spec.data.image_size) == (100, 32)
    assert spec.data.augmentation == "crop4-flip"
    assert (spec.recipe.epochs, spec.recipe.milestones) == (180, (60, 120))
    assert spec.precision == "tf32"


def test_protocol_data_and_precision_each_make_another_spec() -> None:
    requests = [
        Request(Protocol.PAPER),
        Request(Protocol.DEMO),
        Request(Protocol.PAPER, dataset="cifar10"),
        Request(Protocol.PAPER, Precision.TF32),
    ]
    ids = {make_spec(MODEL, "ResNet164", "cifar100", one).spec_id for one in requests}
    assert len(ids) == len(requests)


def test_unknown_data_is_refused() -> None:
    with pytest.raises(UsageError, match="cifar1000"):
        make_spec(MODEL, "ResNet164", "cifar100", Request(Protocol.PAPER, dataset="cifar1000"))


def test_image_counts_for_estimates_are_true_for_digits() -> None:
    assert len(load("digits", Path()).train) == TRAINING_IMAGES["digits"]
