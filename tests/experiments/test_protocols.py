"""The protocols against the paper."""

from __future__ import annotations

from pathlib import Path

import pytest

from dia_repro.data import known_data, load
from dia_repro.data.sources.digits import load_digits
from dia_repro.errors import UsageError
from dia_repro.experiments.names import DataLocation, Precision, Protocol
from dia_repro.experiments.protocols import Request, make_spec, paper_recipe, shortened
from dia_repro.experiments.spec import ImageNetBackbone, ModelSpec, NoAttention, ResNetBackbone
from dia_repro.paper.facts import hyperparameters

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
    assert spec.data == known_data("cifar100").spec
    assert (spec.data.classes, spec.data.image_size) == (100, 32)
    assert spec.data.augmentation == "crop4-flip"
    assert (spec.recipe.epochs, spec.recipe.milestones) == (180, (60, 120))
    assert spec.precision == "tf32"


def test_protocol_data_length_and_precision_each_make_another_spec() -> None:
    requests = [
        Request(Protocol.PAPER),
        Request(Protocol.DEMO),
        Request(Protocol.PAPER, data=known_data("cifar10")),
        Request(Protocol.PAPER, Precision.TF32),
        Request(Protocol.PAPER, epochs=60),
    ]
    ids = {make_spec(MODEL, "ResNet164", "cifar100", request).spec_id for request in requests}
    assert len(ids) == len(requests)


def test_another_length_cuts_the_rate_at_the_same_fractions() -> None:
    recipe = paper_recipe("ResNet164")
    short = shortened(recipe, 45)
    assert (short.epochs, short.milestones) == (45, (15, 30))
    assert short.model_copy(update={"epochs": 180, "milestones": (60, 120)}) == recipe
    assert shortened(recipe, 180) == shortened(recipe, None) == recipe


def test_digits_are_enlarged_for_imagenets_networks() -> None:
    large = ModelSpec(backbone=ImageNetBackbone(family="resnet34"), attention=NoAttention())
    for model, side in ((MODEL, 8), (large, 32)):
        spec = make_spec(model, "ResNet34", "imagenet", Request(Protocol.DEMO))
        assert spec.data.image_size == side
        assert load(spec.data, DataLocation(Path())).train.pixels.shape[2:] == (side, side)  # type: ignore[union-attr]


def test_unknown_data_is_refused() -> None:
    with pytest.raises(UsageError, match="cifar1000"):
        known_data("cifar1000")


def test_image_counts_for_estimates_are_true_for_digits() -> None:
    assert len(load_digits().train) == known_data("digits").training_images
