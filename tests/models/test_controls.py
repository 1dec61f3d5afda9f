"""Attention kinds of the controls against definitions by hand."""

from __future__ import annotations

import copy
from inspect import signature
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dia_repro.experiments.attention import AttentionSpec, parse_attention
from dia_repro.experiments.controls import OPTIONS
from dia_repro.experiments.spec import (
    DIALSTMAttention,
    ModelSpec,
    NoAttention,
    PreResNetBackbone,
    RecipeSpec,
    ResNetBackbone,
    Spec,
)
from dia_repro.models import count, from_spec
from dia_repro.models.attention import DIALSTM, unit_of
from dia_repro.models.attention.registry import PLACEMENT
from dia_repro.models.blocks import ResidualBlock
from dia_repro.models.fast import attend
from dia_repro.models.network import StagedNetwork
from dia_repro.models.stage import Stage
from dia_repro.training.step import TrainingStep
from tests.helpers import tiny_spec

B, C, R = 3, 8, 2
TEXTS = (
    "constant",
    "dia-lstm-frozen",
    "dia-lstm-start:start=0.95",
    "lstm-per-block",
    "branch-scale:start=0.3",
    "extra-bn",
)
every_kind = pytest.mark.parametrize("text", TEXTS)
# The network of `network`: blocks by stage, channels of each stage's residual branches.
BLOCKS, WIDTHS = 2, (64, 128, 256)


def network(text: str, depth: int = 20) -> StagedNetwork:
    torch.manual_seed(0)
    attention = parse_attention(text)
    return from_spec(ModelSpec(backbone=ResNetBackbone(depth=depth), attention=attention), 5)


def unit(text: str) -> nn.Module:
    """Return a unit for C channels, with the weights of seed 0."""
    attention = parse_attention(text)
    registered = unit_of(attention.kind)
    assert registered is not None
    torch.manual_seed(0)
    return registered.make(C, **attention.model_dump(exclude=PLACEMENT))


def walk(module: nn.Module, blocks: int = 3) -> list[Tensor]:
    torch.manual_seed(1)
    state, vectors = None, []
    for y in torch.randn(blocks, B, C):
        h, state = module(y, state)
        vectors.append(h)
    return vectors


@every_kind
def test_a_kind_has_a_spec_a_name_and_the_options_of_its_unit(text: str) -> None:
    attention = parse_attention(text)
    spec = tiny_spec(attention=attention)
    assert Spec.from_json(spec.canonical_json()) == spec
    assert Spec.from_stored(spec.canonical_json()) == spec
    assert parse_attention(attention.text) == attention
    assert attention.title in spec.model.label
    registered = unit_of(attention.kind)
    if registered is not None:
        _, *options = signature(registered.make).parameters
        assert options == [name for name in type(attention).model_fields if name != "kind"]


def test_every_kind_is_tried_here_and_has_an_id_of_its_own() -> None:
    assert {kind for options in OPTIONS for kind in options.titles} == {
        t.partition(":")[0] for t in TEXTS
    }
    attentions = [NoAttention(), DIALSTMAttention(), *map(parse_attention, TEXTS)]
    assert (
        len({tiny_spec(attention=attention).spec_id for attention in attentions}) == len(TEXTS) + 2
    )


def test_an_extra_bn_without_bn_is_no_attention() -> None:
    backbone = ResNetBackbone(depth=20)
    without = ModelSpec(backbone=backbone, attention=parse_attention("extra-bn"), norm=False)
    assert without == ModelSpec(backbone=backbone, attention=NoAttention(), norm=False)


@every_kind
def test_fast_passes_give_the_plain_gradients(text: str) -> None:
    """The plain modules in float64 against the passes that train on a CPU."""
    fast = network(text).to(memory_format=torch.channels_last)
    plain = copy.deepcopy(fast).double()
    fast.use_fast()
    torch.manual_seed(1)
    images, labels = torch.randn(6, 3, 8, 8), torch.arange(6) % 5
    for model, dtype in ((plain, torch.float64), (fast, torch.float32)):
        inputs = images.to(dtype).to(memory_format=torch.channels_last)
        functional.cross_entropy(model(inputs), labels).backward()
    for (name, ours), expected in zip(fast.named_parameters(), plain.parameters(), strict=True):
        assert (ours.grad is None) == (expected.grad is None) == (not ours.requires_grad), name
        if ours.grad is not None and expected.grad is not None:
            close = 1e-3 * (1e-3 + expected.grad.abs().max())
            assert (ours.grad - expected.grad).abs().max() < close, name


@pytest.mark.parametrize("text", ["dia-lstm-start", "lstm-per-block"])
def test_blocks_compile_without_a_break(text: str) -> None:
    model = network(text, depth=11)
    images = torch.randn(4, 3, 8, 8)
    plain = copy.deepcopy(model)(images)
    model.use_compiled(backend="eager")
    torch.testing.assert_close(model(images), plain, rtol=1e-5, atol=1e-6)


def added(text: str) -> int:
    def parameters(attention: AttentionSpec) -> int:
        return count(
            ModelSpec(backbone=ResNetBackbone(depth=20), attention=attention), 5, 8
        ).parameters

    return parameters(parse_attention(text)) - parameters(NoAttention())


def test_parameters_are_those_that_are_trained() -> None:
    # 10 N²/r weights and 8N + 2N/r biases of each cell, r = 4.
    cells = sum(10 * n * n // 4 + 8 * n + 2 * n // 4 for n in WIDTHS)
    assert {text.partition(":")[0]: added(text) for text in TEXTS} == {
        "constant": 0,
        "dia-lstm-frozen": 0,
        "dia-lstm-start": cells,
        "lstm-per-block": BLOCKS * cells,
        "branch-scale": BLOCKS * 3,
        "extra-bn": BLOCKS * 2 * sum(WIDTHS),
    }


def test_a_constant_is_its_value_whatever_the_features() -> None:
    for value in (0.25, 0.5):
        (h, state) = unit(f"constant:value={value}")(torch.randn(B, C), None)
        assert torch.equal(h, torch.full((B, C), value))
        assert state is None


def test_a_branch_is_scaled_by_its_learned_number() -> None:
    scale = unit("branch-scale:start=0.3")
    (weight,) = scale.parameters()
    a = torch.randn(B, C)
    h, _ = scale(torch.randn(B, C), None)
    (a * h).sum().backward()
    assert torch.equal(h, torch.full((B, C), 0.3))
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx(a.sum().item(), rel=1e-5)


def test_with_skipinit_blocks_start_as_the_identity() -> None:
    attention = parse_attention("branch-scale")
    spec = ModelSpec(backbone=PreResNetBackbone(depth=20), attention=attention)
    stage = cast("Stage", from_spec(spec, 5).stages[0])
    x = torch.randn(2, 64, 4, 4)
    y, _ = stage._block(cast("ResidualBlock", stage.blocks[1]), x, None)
    assert torch.equal(y, x)


def test_frozen_weights_are_dia_lstms_and_are_not_moved() -> None:
    ours, trained = network("dia-lstm-frozen"), network("dia-lstm")
    assert torch.equal(*(model(torch.ones(2, 3, 8, 8)) for model in (ours, trained)))
    before = {name: value.clone() for name, value in ours.named_parameters()}
    recipe = RecipeSpec(
        epochs=1, batch_size=4, lr=0.1, momentum=0.9, weight_decay=0.1, milestones=(), gamma=1.0
    )
    step = TrainingStep(ours, recipe, "fp32", torch.device("cpu"))
    images = torch.randn(4, 3, 8, 8).to(memory_format=torch.channels_last)
    step.train(images, torch.arange(4))
    moved = {name for name, now in ours.named_parameters() if not torch.equal(now, before[name])}
    assert moved == {name for name in before if ".unit." not in name}


def test_features_get_gradients_through_frozen_weights() -> None:
    pooled = torch.randn(B, C, requires_grad=True)
    unit("dia-lstm-frozen:reduction=2")(pooled, None)[0].sum().backward()
    assert pooled.grad is not None
    assert pooled.grad.count_nonzero() > 0


def test_dia_lstm_start_at_a_quarter_is_dia_lstm() -> None:
    usual, ours = (
        walk(unit("dia-lstm:reduction=2")),
        walk(unit("dia-lstm-start:reduction=2,start=0.25")),
    )
    assert all(map(torch.equal, ours, usual))


@pytest.mark.parametrize("start", [0.25, 0.5, 0.95])
def test_attention_starts_at_its_start_where_the_gates_see_nothing(start: float) -> None:
    module = unit(f"dia-lstm-start:reduction=2,start={start}")
    for name, weight in module.named_parameters():
        if "bias" not in name:
            nn.init.zeros_(weight)
    root = start**0.5
    drawn = unit("dia-lstm:reduction=2")  # the same biases, but for the output gate's
    i, f, g, o = (drawn.cells[0].from_input[2].bias + drawn.cells[0].from_hidden[2].bias).chunk(4)  # type: ignore[index, union-attr]
    bias = torch.tensor(root / (1 - root)).log()
    c = torch.zeros(C)
    for h in walk(module):
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        torch.testing.assert_close(h[0], (o + bias).sigmoid() * (c + bias).sigmoid())
    assert h.mean().item() == pytest.approx(start, abs=0.15)


def test_cells_of_blocks_differ_and_pass_their_state_on() -> None:
    stage = network("lstm-per-block").stages[0]
    first, second = (block.attention for block in stage.blocks)  # type: ignore[union-attr]
    assert isinstance(first, DIALSTM)
    assert isinstance(second, DIALSTM)
    assert not torch.equal(*(u.cells[0].from_input[0].weight for u in (first, second)))  # type: ignore[index, union-attr]
    y = torch.randn(2, B, 64)
    h, state = attend(first, y[0], None)
    again, _ = attend(second, y[1], state)
    expected, _ = second(y[1], ((h, state[0][1]),))
    assert torch.equal(again, expected)
    assert not torch.equal(again, second(y[1], None)[0])


class Doubled(DIALSTM):
    """A unit of one's own that is derived from DIA-LSTM."""

    def forward(self, pooled: Tensor, state: object = None) -> tuple[Tensor, object]:  # type: ignore[override]
        h, state = super().forward(pooled, state)  # type: ignore[arg-type]
        return 2 * h, state


def test_a_unit_derived_from_dia_lstm_is_asked_itself() -> None:
    derived, y = Doubled(C, 2), torch.randn(B, C)
    assert torch.equal(attend(derived, y, None)[0], derived(y, None)[0])
