"""What holds for every family of networks, with every kind of attention."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dia_repro.experiments.spec import (
    Attention,
    Backbone,
    DIALSTMAttention,
    ImageNetBackbone,
    ModelSpec,
    NoAttention,
    PreResNetBackbone,
    ResNetBackbone,
    ResNeXtBackbone,
    SEAttention,
    WRNBackbone,
)
from dia_repro.models import count, from_spec
from dia_repro.models.counting import _count
from dia_repro.models.stage import Stage

BACKBONES: dict[str, Backbone] = {
    "resnet": ResNetBackbone(depth=20),
    "basic": ResNetBackbone(depth=14, block="basic"),
    "preresnet": PreResNetBackbone(depth=20),
    "wrn": WRNBackbone(depth=16, widen_factor=2),
    "resnext": ResNeXtBackbone(depth=20, cardinality=4, widen_factor=2),
    "resnet34": ImageNetBackbone(family="resnet34", conv_bias=True),
    "resnext50": ImageNetBackbone(family="resnext50"),
}
ATTENTIONS: dict[str, Attention] = {
    "none": NoAttention(),
    "se": SEAttention(kind="se", reduction=8),
    "dia-se": SEAttention(kind="dia-se", reduction=8, bias=False),
    "dia-lstm": DIALSTMAttention(reduction=4, extraction="bn+gap"),
}
every_family = pytest.mark.parametrize("family", BACKBONES)
every_kind = pytest.mark.parametrize("kind", ATTENTIONS)


def network(family: str, kind: str, *, norm: bool = True, skip: bool = True) -> nn.Module:
    torch.manual_seed(0)
    spec = ModelSpec(backbone=BACKBONES[family], attention=ATTENTIONS[kind], norm=norm, skip=skip)
    return from_spec(spec, 7)


def outline(family: str, kind: str, *, norm: bool = True) -> nn.Module:
    """The same without values, which take most of the time."""
    with torch.device("meta"):
        return network(family, kind, norm=norm)


def stages(model: nn.Module) -> list[Stage]:
    return [module for module in model.modules() if isinstance(module, Stage)]


@every_family
@every_kind
@pytest.mark.parametrize(("norm", "skip"), [(True, True), (False, False)])
def test_every_network_runs_forward_and_backward(
    family: str, kind: str, norm: bool, skip: bool
) -> None:
    model = network(family, kind, norm=norm, skip=skip)
    logits = model(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 7)
    logits.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@every_family
@every_kind
def test_without_norm_no_normalisation_is_left(family: str, kind: str) -> None:
    model = outline(family, kind, norm=False)
    assert not any("Norm" in type(module).__name__ for module in model.modules())
    assert not list(model.buffers())


@every_family
@every_kind
@pytest.mark.parametrize("skip", [True, False])
def test_only_skips_lead_around_a_block(family: str, kind: str, skip: bool) -> None:
    """With the last convolution of a block at zero, what comes out is the skip or nothing."""
    stage = stages(network(family, kind, norm=False, skip=skip))[1]
    block = stage.blocks[-1]
    last = [m for m in block.layers.modules() if isinstance(m, nn.Conv2d)][-1]  # type: ignore[union-attr]
    nn.init.zeros_(last.weight)
    if last.bias is not None:
        nn.init.zeros_(last.bias)
    entering = next(m for m in stage.blocks[0].modules() if isinstance(m, nn.Conv2d))
    out = stage(torch.randn(2, entering.in_channels, 8, 8).abs())
    assert bool(out.any()) == skip


@every_family
def test_se_is_one_module_a_block_and_dia_one_a_stage(family: str) -> None:
    for kind in ("se", "dia-se", "dia-lstm"):
        model = outline(family, kind)
        blocks = [block for stage in stages(model) for block in stage.blocks]
        own = {id(block.attention) for block in blocks if block.attention is not None}
        shared = {id(stage.unit) for stage in stages(model) if stage.unit is not None}
        expected = (len(blocks), 0) if kind == "se" else (0, len(stages(model)))
        assert (len(own), len(shared)) == expected
        names = {name.split(".unit.")[0] for name in model.state_dict() if ".unit." in name}
        assert len(names) == expected[1]


@every_family
def test_extraction_with_bn_normalises_what_is_pooled_and_rescaled(family: str) -> None:
    with_bn, without = outline(family, "dia-lstm"), outline(family, "dia-se")
    for stage, plain in zip(stages(with_bn), stages(without), strict=True):
        for block, other in zip(stage.blocks, plain.blocks, strict=True):
            assert isinstance(block.layers[-1], nn.BatchNorm2d)  # type: ignore[index]
            assert len(block.layers) == len(other.layers) + 1  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["preresnet", "wrn"])
def test_preactivation_families_have_no_relu_after_the_addition(family: str) -> None:
    model = network(family, "none").eval()
    outputs: list[torch.Tensor] = []
    for stage in stages(model):
        stage.register_forward_hook(lambda _m, _i, output: outputs.append(output))
    model(torch.randn(2, 3, 32, 32))
    assert all((output < 0).any() for output in outputs)


@pytest.mark.parametrize("family", ["resnet", "basic", "resnext", "resnet34", "resnext50"])
def test_other_families_have_a_relu_after_the_addition(family: str) -> None:
    model = network(family, "none").eval()
    outputs: list[torch.Tensor] = []
    for stage in stages(model):
        stage.register_forward_hook(lambda _m, _i, output: outputs.append(output))
    model(torch.randn(2, 3, 32, 32))
    assert all((output >= 0).all() for output in outputs)


DEEP: list[Backbone] = [
    ResNetBackbone(depth=38),
    ResNetBackbone(depth=26, block="basic"),
    PreResNetBackbone(depth=38),
    WRNBackbone(depth=28),
    ResNeXtBackbone(depth=38),
]


@pytest.mark.parametrize("backbone", DEEP, ids=lambda backbone: backbone.family)
@every_kind
@pytest.mark.parametrize(("norm", "skip"), [(True, True), (False, False)])
def test_counts_are_those_of_the_whole_network(
    backbone: Backbone, kind: str, norm: bool, skip: bool
) -> None:
    """They are put together from networks of one and two blocks a stage."""
    model = ModelSpec(backbone=backbone, attention=ATTENTIONS[kind], norm=norm, skip=skip)
    assert count(model, 7, 32) == _count(model, 7, 32)
