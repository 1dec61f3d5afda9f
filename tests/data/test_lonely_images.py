"""A last batch of one image: BN cannot be trained on one value."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dia_repro.data.batches import LonelyImageError, check_batches
from dia_repro.experiments.spec import (
    Backbone,
    ImageNetBackbone,
    NoAttention,
    PreResNetBackbone,
    ResNetBackbone,
    ResNeXtBackbone,
    Spec,
    WRNBackbone,
)
from dia_repro.models import from_spec
from tests.helpers import tiny_spec

BACKBONES = [
    ResNetBackbone(depth=11),
    PreResNetBackbone(depth=11),
    WRNBackbone(depth=10),
    ResNeXtBackbone(depth=11),
    ImageNetBackbone(family="resnet34"),
]


def spec_of(backbone: Backbone, size: int, batch: int = 64, *, norm: bool = True) -> Spec:
    spec = tiny_spec(attention=NoAttention())
    model = {"backbone": backbone, "norm": norm}
    parts: dict[str, Any] = {
        "data": spec.data.model_copy(update={"image_size": size}),
        "model": spec.model.model_copy(update=model),
        "recipe": spec.recipe.model_copy(update={"batch_size": batch}),
    }
    return spec.model_copy(update=parts)


def refused(spec: Spec, images: int) -> bool:
    try:
        check_batches(spec, images)
    except LonelyImageError:
        return True
    return False


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda backbone: backbone.family)
@pytest.mark.parametrize("size", [4, 5, 8, 32, 33])
@pytest.mark.parametrize("norm", [True, False])
def test_what_is_refused_is_what_torch_cannot_train(
    backbone: Backbone, size: int, norm: bool
) -> None:
    spec = spec_of(backbone, size, norm=norm)
    network = from_spec(spec.model, 10).train()
    image = torch.randn(1, 3, size, size)
    if refused(spec, 65):
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            network(image)
    else:
        network(image)


@pytest.mark.parametrize(
    ("images", "batch", "expected"),
    [
        (65, 64, True),
        (64, 64, False),
        (66, 64, False),
        (1, 64, True),
        (7, 1, True),
        (129, 64, True),
    ],
)
def test_only_a_batch_of_one_is_refused(images: int, batch: int, expected: bool) -> None:
    spec = spec_of(ImageNetBackbone(family="resnet34"), 32, batch)
    assert refused(spec, images) == expected
