"""CIFAR ResNets: counts by formula, the forward pass by hand, what norm and skip take away."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dia_repro.experiments.spec import (
    Attention,
    DIALSTMAttention,
    ModelSpec,
    NoAttention,
    ResNetBackbone,
    SEAttention,
)
from dia_repro.models import count, count_parameters, from_spec
from dia_repro.models.network import StagedNetwork
from dia_repro.models.stage import Stage

CLASSES = 10
ATTENTIONS: dict[str, Attention] = {
    "none": NoAttention(),
    "se": SEAttention(kind="se", reduction=16),
    "dia-se": SEAttention(kind="dia-se", reduction=16),
    "dia-lstm": DIALSTMAttention(reduction=4),
}


def model_spec(kind: str = "none", depth: int = 20, **options: object) -> ModelSpec:
    block = options.pop("block", "bottleneck")
    backbone = ResNetBackbone(depth=depth, block=block)  # type: ignore[arg-type]
    return ModelSpec(backbone=backbone, attention=ATTENTIONS[kind], **options)  # type: ignore[arg-type]


def conv(k: int, cin: int, cout: int, norm: bool) -> int:
    return k * k * cin * cout + (2 * cout if norm else 0)


def backbone_count(depth: int, block: str, *, norm: bool, skip: bool, classes: int) -> int:
    """#P of a CIFAR ResNet without attention, block by block."""
    expansion, layers = (4, 3) if block == "bottleneck" else (1, 2)
    total, channels = conv(3, 3, 16, norm), 16
    for stage, planes in enumerate((16, 32, 64)):
        for index in range((depth - 2) // (3 * layers)):
            out = planes * expansion
            if block == "bottleneck":
                total += conv(1, channels, planes, norm) + conv(3, planes, planes, norm)
                total += conv(1, planes, out, norm)
            else:
                total += conv(3, channels, planes, norm) + conv(3, planes, out, norm)
            strided = stage > 0 and index == 0
            if skip and (strided or channels != out):
                total += conv(1, channels, out, norm)
            channels = out
    return total + channels * classes + classes


def linear(cin: int, cout: int) -> int:
    return cin * cout + cout


def unit_count(kind: str, c: int) -> int:
    if kind in ("se", "dia-se"):
        return linear(c, c // 16) + linear(c // 16, c)
    return 2 * (linear(c, c // 4) + linear(c // 4, 4 * c))


def attention_count(kind: str, depth: int) -> int:
    if kind == "none":
        return 0
    times = (depth - 2) // 9 if kind == "se" else 1
    return times * sum(unit_count(kind, c) for c in (64, 128, 256))


@pytest.mark.parametrize("depth", [20, 83, 164, 407])
@pytest.mark.parametrize("kind", ATTENTIONS)
def test_parameter_count_is_the_formulas_to_the_unit(kind: str, depth: int) -> None:
    expected = backbone_count(depth, "bottleneck", norm=True, skip=True, classes=100)
    expected += attention_count(kind, depth)
    assert count(model_spec(kind, depth), 100, 32).parameters == expected


@pytest.mark.parametrize("block", ["bottleneck", "basic"])
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("skip", [True, False])
def test_parameter_count_without_norm_and_skip(block: str, norm: bool, skip: bool) -> None:
    depth = 20
    spec = model_spec(depth=depth, block=block, norm=norm, skip=skip)
    expected = backbone_count(depth, block, norm=norm, skip=skip, classes=CLASSES)
    assert count(spec, CLASSES, 8).parameters == expected


@pytest.mark.parametrize("kind", ["dia-se", "dia-lstm"])
def test_shared_units_do_not_grow_with_depth(kind: str) -> None:
    increments = {
        count(model_spec(kind, depth), CLASSES, 8).parameters
        - count(model_spec("none", depth), CLASSES, 8).parameters
        for depth in (20, 83, 164)
    }
    assert increments == {attention_count(kind, 20)}


@pytest.mark.parametrize(("kind", "block_units", "stage_units"), [("se", 6, 0), ("dia-lstm", 0, 3)])
def test_se_has_a_module_a_block_and_dia_one_a_stage(
    kind: str, block_units: int, stage_units: int
) -> None:
    network = from_spec(model_spec(kind), CLASSES)
    stages = [module for module in network.modules() if isinstance(module, Stage)]
    own = [block.attention for stage in stages for block in stage.blocks if block.attention]
    shared = [stage.unit for stage in stages if stage.unit is not None]
    assert (len({id(unit) for unit in own}), len({id(unit) for unit in shared})) == (
        block_units,
        stage_units,
    )
    holders = {name.split(".unit.")[0] for name in network.state_dict() if ".unit." in name}
    assert len(holders) == stage_units


def test_stages_without_a_unit_have_none() -> None:
    attention = DIALSTMAttention(stages=(1, 3))
    spec = ModelSpec(backbone=ResNetBackbone(depth=20), attention=attention)
    network = from_spec(spec, CLASSES)
    assert isinstance(network, StagedNetwork)
    present = [stage.unit is not None for stage in network.stages]
    assert present == [True, False, True]


@pytest.mark.parametrize("kind", ATTENTIONS)
@pytest.mark.parametrize("block", ["bottleneck", "basic"])
def test_without_norm_no_normalisation_is_left(kind: str, block: str) -> None:
    network = from_spec(model_spec(kind, norm=False, block=block), CLASSES)
    assert not any("Norm" in type(module).__name__ for module in network.modules())
    assert not list(network.buffers())


@pytest.mark.parametrize("kind", ATTENTIONS)
@pytest.mark.parametrize("block", ["bottleneck", "basic"])
def test_without_skip_there_is_no_path_around_a_block(kind: str, block: str) -> None:
    network = from_spec(model_spec(kind, skip=False, norm=False, block=block), CLASSES)
    stage = next(module for module in network.modules() if isinstance(module, Stage))
    last = [m for m in stage.blocks[-1].modules() if isinstance(m, nn.Conv2d)][-1]
    nn.init.zeros_(last.weight)
    assert not stage(torch.randn(2, 16, 8, 8)).any()
    with_skip = from_spec(model_spec(kind, norm=False, block=block), CLASSES)
    stage = next(module for module in with_skip.modules() if isinstance(module, Stage))
    last = [m for m in stage.blocks[-1].modules() if isinstance(m, nn.Conv2d)][-1]
    nn.init.zeros_(last.weight)
    assert stage(torch.randn(2, 16, 8, 8)).any()


@pytest.mark.parametrize("kind", ["se", "dia-se", "dia-lstm"])
def test_no_state_leaks_from_batch_to_batch(kind: str) -> None:
    torch.manual_seed(0)
    network = from_spec(model_spec(kind), CLASSES).eval()
    first, second = torch.randn(2, 4, 3, 8, 8)
    fresh = network(second)
    network(first)
    assert torch.equal(network(second), fresh)


def test_images_of_a_batch_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    network = from_spec(model_spec("dia-lstm"), CLASSES).double().eval()
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    together = network(images)
    alone = torch.cat([network(image[None]) for image in images])
    assert (together - alone).abs().max() < 1e-12


def test_the_state_starts_at_zero_in_every_stage() -> None:
    torch.manual_seed(0)
    network = from_spec(model_spec("dia-lstm"), CLASSES)
    assert isinstance(network, StagedNetwork)
    seen: list[list[object]] = []
    for stage in network.stages:
        states: list[object] = []
        seen.append(states)
        stage.unit.register_forward_pre_hook(  # type: ignore[union-attr]
            lambda _module, inputs, states=states: states.append(inputs[1])
        )
    network(torch.randn(2, 3, 8, 8))
    for states in seen:
        assert states[0] is None
        assert all(state is not None for state in states[1:])


@pytest.mark.parametrize("kind", ["dia-se", "dia-lstm"])
def test_the_shared_units_gradient_is_the_sum_over_blocks(kind: str) -> None:
    """Each block gets a copy of the unit of its own; the copies' gradients add up to the whole."""
    torch.manual_seed(0)
    stage = next(
        m
        for m in from_spec(model_spec(kind, 29), CLASSES).double().modules()
        if isinstance(m, Stage)
    )
    x = torch.randn(2, 16, 8, 8, dtype=torch.float64)
    stage(x).pow(2).sum().backward()
    unit = stage.unit
    assert unit is not None
    whole = [p.grad.clone() for p in unit.parameters() if p.grad is not None]

    parameters = dict(unit.named_parameters())
    copies = [
        {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}
        for _ in stage.blocks
    ]
    state = None
    for block, copy in zip(stage.blocks, copies, strict=True):
        a = block.residual(x)  # type: ignore[operator]
        h, state = torch.func.functional_call(unit, copy, (a.mean((2, 3)), state))
        x = block.merge(x, a * h[:, :, None, None])  # type: ignore[operator]
    x.pow(2).sum().backward()
    for index, name in enumerate(parameters):
        parts = [copy[name].grad for copy in copies]
        summed = torch.stack([part for part in parts if part is not None]).sum(0)
        assert torch.allclose(summed, whole[index], rtol=1e-10, atol=1e-12)
        assert len(stage.blocks) > 1
        assert not torch.allclose(parts[-1], whole[index])  # type: ignore[arg-type]


@pytest.mark.parametrize(("depth", "block"), [(84, "bottleneck"), (9, "basic"), (2, "bottleneck")])
def test_depths_that_do_not_divide_are_refused(depth: int, block: str) -> None:
    with pytest.raises(ValueError, match=f"depth {depth}"):
        from_spec(model_spec(depth=depth, block=block), CLASSES)


def test_initial_weights_are_he_normal_with_fan_out() -> None:
    torch.manual_seed(0)
    network = from_spec(model_spec(depth=164), CLASSES)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            fan_out = module.kernel_size[0] ** 2 * module.out_channels
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert not module.bias.any()


def test_multiply_accumulates_are_those_of_the_layers() -> None:
    """ResNet20 by formula: every convolution at its output size, and the classifier."""
    total, channels, size = 3 * 9 * 16 * 32**2, 16, 32
    for stage, planes in enumerate((16, 32, 64)):
        for index in range(2):
            after = size // 2 if stage and index == 0 else size
            total += channels * planes * size**2 + 9 * planes**2 * after**2
            total += planes * 4 * planes * after**2
            if index == 0:
                total += channels * 4 * planes * after**2
            channels, size = 4 * planes, after
    assert count(model_spec(), CLASSES, 32).macs == total + channels * CLASSES


@pytest.mark.parametrize("kind", ATTENTIONS)
def test_counts_are_those_of_torchs_own_counter_and_of_a_real_network(kind: str) -> None:
    network = from_spec(model_spec(kind), CLASSES).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.randn(1, 3, 16, 16))
    counted = count(model_spec(kind), CLASSES, 16)
    assert 2 * counted.macs == counter.get_total_flops()
    assert counted.parameters == count_parameters(network)
