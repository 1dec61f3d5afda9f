"""The modified LSTM of Figure 4, gate by gate, against NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dia_repro.models.attention import DIALSTM

Array = NDArray[np.float64]
B, C, R = 5, 12, 4

OUTPUT: dict[str, Callable[[Array], Array]] = {
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
}


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def weights(unit: DIALSTM) -> dict[str, Array]:
    return {name: value.detach().numpy() for name, value in unit.named_parameters()}


def reduced(w: dict[str, Array], name: str, source: Array) -> Array:
    inner = np.maximum(source @ w[f"{name}.0.weight"].T + w[f"{name}.0.bias"], 0)
    return inner @ w[f"{name}.2.weight"].T + w[f"{name}.2.bias"]


def reference(
    w: dict[str, Array], y: Array, h: Array, c: Array, activation: str
) -> dict[str, Array]:
    z = reduced(w, "cells.0.from_input", y) + reduced(w, "cells.0.from_hidden", h)
    gate = {name: z[:, k * C : (k + 1) * C] for k, name in enumerate("ifgo")}
    i, f, o = (sigmoid(gate[name]) for name in "ifo")
    candidate = np.tanh(gate["g"])
    new_c = f * c + i * candidate
    return {"i": i, "f": f, "g": candidate, "o": o, "c": new_c, "h": o * OUTPUT[activation](new_c)}


@pytest.fixture
def unit(request: pytest.FixtureRequest) -> DIALSTM:
    torch.manual_seed(0)
    return DIALSTM(C, reduction=R, activation=getattr(request, "param", "sigmoid")).double()


@pytest.mark.parametrize("unit", ["sigmoid", "tanh", "relu"], indirect=True)
def test_three_steps_are_equation_1(unit: DIALSTM) -> None:
    rng = np.random.default_rng(0)
    h, c, state = np.zeros((B, C)), np.zeros((B, C)), None
    for _ in range(3):
        y = rng.normal(size=(B, C))
        expected = reference(weights(unit), y, h, c, unit.cells[0].activation)  # type: ignore[arg-type]
        attention, state = unit(torch.from_numpy(y), state)
        h, c = expected["h"], expected["c"]
        assert np.abs(attention.detach().numpy() - h).max() < 1e-12
        assert np.abs(state[0][1].detach().numpy() - c).max() < 1e-12


@pytest.mark.parametrize("gate", range(4))
def test_each_gate_does_its_own_work(unit: DIALSTM, gate: int) -> None:
    """Moving one quarter of the last bias moves what that gate moves in the reference."""
    rng = np.random.default_rng(1)
    y, h, c = (rng.normal(size=(B, C)) for _ in range(3))
    bias = dict(unit.named_parameters())["cells.0.from_input.2.bias"]
    with torch.no_grad():
        bias[gate * C : (gate + 1) * C] += 0.7
    expected = reference(weights(unit), y, h, c, "sigmoid")
    state = ((torch.from_numpy(h), torch.from_numpy(c)),)
    attention, after = unit(torch.from_numpy(y), state)
    assert np.abs(attention.detach().numpy() - expected["h"]).max() < 1e-5
    assert np.abs(after[0][1].detach().numpy() - expected["c"]).max() < 1e-5


def test_attention_lies_between_0_and_1(unit: DIALSTM) -> None:
    attention, _ = unit(torch.randn(100, C, dtype=torch.float64) * 10)
    assert ((attention > 0) & (attention < 1)).all()


def test_a_stack_feeds_each_cell_from_the_one_below() -> None:
    torch.manual_seed(0)
    unit = DIALSTM(C, reduction=R, cells=3).double().eval()
    y = torch.randn(B, C, dtype=torch.float64)
    attention, state = unit(y)
    assert len(state) == 3
    below = y
    for cell, (h, c) in zip(unit.cells, state, strict=True):
        zero = torch.zeros_like(y)
        assert torch.equal(cell(below, (zero, zero))[0], h)
        assert torch.equal(cell(below, (zero, zero))[1], c)
        below = h
    assert torch.equal(attention, below)


def test_only_stacks_have_dropout_that_does_something() -> None:
    torch.manual_seed(0)
    y = torch.randn(B, C)
    single, stack = DIALSTM(C, reduction=R), DIALSTM(C, reduction=R, cells=2)
    assert torch.equal(single(y)[0], single(y)[0])
    assert not torch.equal(stack(y)[0], stack(y)[0])
    assert torch.equal(stack.eval()(y)[0], stack(y)[0])


def test_parameter_counts_follow_the_papers_formula() -> None:
    """10·N²/r weights (appendix), and biases of both linear pairs."""
    for channels, r in ((64, 4), (256, 16)):
        unit = DIALSTM(channels, reduction=r)
        weights_only = sum(p.numel() for p in unit.parameters() if p.dim() == 2)
        biases = sum(p.numel() for p in unit.parameters() if p.dim() == 1)
        assert weights_only == 10 * channels**2 // r
        assert biases == 2 * (channels // r + 4 * channels)
