"""Networks by name, as other people's code asks for them."""

from __future__ import annotations

import pytest
import torch

from dia_repro.artifacts.paper import CIFAR_FAMILIES, COLUMNS, IMAGENET_FAMILIES, Family
from dia_repro.errors import UsageError
from dia_repro.experiments.spec import SEAttention
from dia_repro.models import build, count, count_parameters
from dia_repro.models.build import UnknownNetworkError

FAMILIES = {**CIFAR_FAMILIES, **IMAGENET_FAMILIES}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
@pytest.mark.parametrize("column", COLUMNS)
def test_every_network_of_table_3_can_be_had_by_name(family: Family, column: str) -> None:
    model = family.model(column)
    name = model.backbone.label
    options = model.attention.model_dump()
    if hasattr(model.backbone, "conv_bias"):
        options["conv_bias"] = model.backbone.conv_bias
    kind = options.pop("kind")
    with torch.device("meta"):
        network = build(name, classes=100, attention=kind, **options)
    assert count_parameters(network) == count(model, 100, 32).parameters


def test_norm_skip_and_block_are_passed_on() -> None:
    bare = build("resnet56", classes=7, block="basic", norm=False, skip=False)
    assert not any("Norm" in type(module).__name__ for module in bare.modules())
    assert not any("shortcut" in name for name in bare.state_dict())
    assert bare(torch.randn(2, 3, 16, 16)).shape == (2, 7)


def test_defaults_are_the_papers() -> None:
    se = build("resnet20", attention="se").state_dict()
    assert (
        se["stages.0.blocks.0.attention.squeeze.weight"].shape[0]
        == 64 // SEAttention(kind="se").reduction
    )
    dia = build("resnet20", attention="dia-lstm").state_dict()
    assert dia["stages.0.unit.cells.0.from_input.0.weight"].shape == (16, 64)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("resnet", {}, "unknown network 'resnet'"),
        ("wrn52", {}, "unknown network 'wrn52'"),
        ("resnet164", {"attention": "sea"}, "unknown attention 'sea'"),
        ("resnet164", {"attention": "se", "cells": 3}, "cells: Extra"),
        ("resnet164", {"dropout": 0.3}, "dropout: Extra .*its options: norm, skip, block"),
        ("resnet164", {"attention": "dia-lstm", "activation": "gelu"}, "'sigmoid', 'tanh'"),
        ("resnet164", {"attention": "se", "reduction": 0}, "reduction: "),
        ("resnet164", {"norm": "none"}, "norm: "),
        ("resnet164", {"skips": False}, "skips: .*its options: norm, skip"),
        ("resnet164", {"depth": 83}, "resnet164 .* settles depth already"),
        ("resnet164", {"family": "foo"}, "settles family"),
        ("resnet50", {"depth": 83}, "settles depth"),
        ("resnet164", {"kind": "se"}, "settles kind"),
        ("wrn52-4", {"widen_factor": 3}, "settles widen_factor"),
        ("resnext101-8x32d", {"cardinality": 3}, "settles cardinality"),
        ("resnet164", {"classes": 0}, "resnet164 with 0 classes"),
        ("resnet164", {"classes": -1}, "with -1 classes"),
        ("resnet164", {"classes": 2.0}, "with 2.0 classes"),
        ("resnet164", {"classes": True}, "with True classes"),
        ("resnet" + "9" * 5000, {}, "unknown network"),
        ("resnet１６４", {}, "unknown network"),
    ],
)
def test_what_does_not_exist_is_refused_in_a_sentence(
    name: str, options: dict[str, object], words: str
) -> None:
    with pytest.raises(UnknownNetworkError, match=words) as caught:
        build(name, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["resnet56", "wrn52-4", "resnext29-8x32d"])
def test_stages_that_the_network_lacks_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="stage 4 is to have attention, of 3 stages"):
        build(name, attention="dia-lstm", stages=(1, 4))


@pytest.mark.parametrize("kind", ["se", "dia-se", "dia-lstm"])
def test_a_reduction_that_leaves_no_channel_is_refused(kind: str) -> None:
    build("resnet11", attention=kind, reduction=64)
    with pytest.raises(ValueError, match="reduction 65 leaves none of a stage's 64 channels"):
        build("resnet11", attention=kind, reduction=65)


def test_errors_are_value_errors_and_lead_to_an_exit_code() -> None:
    with pytest.raises(ValueError, match="settles depth") as settled:
        build("resnet164", depth=83)
    with pytest.raises(ValueError, match="depth 100") as impossible:
        build("resnet100")
    assert isinstance(settled.value, UsageError)
    assert isinstance(impossible.value, UsageError)


def test_depths_without_whole_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="depth 100"):
        build("resnet100")
