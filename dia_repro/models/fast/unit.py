"""DIA-LSTM's step with its backward written by hand (eq. 1).

The plain cell computes its eight weight gradients for every block and adds them up, though the sum
over blocks is one product (the blocks' rows stacked). Its two second projections, too, are one
product of the stacked halves.
"""

from __future__ import annotations

from typing import Any, TypeGuard, cast

import torch
from torch import Tensor, nn

from dia_repro.models.attention.dia_lstm import DIALSTM, DIALSTMCell
from dia_repro.models.fast import cell, gates

Layers = tuple[nn.Linear, nn.ReLU, nn.Linear]


class _Walk:
    """One stage's walk over its blocks in one forward pass; gathers tensors of its backward.

    It must not hold what autograd's nodes make: they hold it.

    Args:
        unit: with one cell.
    """

    def __init__(self, unit: DIALSTM) -> None:
        plain = cast("DIALSTMCell", unit.cells[0])
        self.activation = gates.ACTIVATIONS[plain.activation]
        x1, _, x2 = cast("Layers", plain.from_input)
        h1, _, h2 = cast("Layers", plain.from_hidden)
        self.parameters = tuple(p for layer in (x1, x2, h1, h2) for p in (layer.weight, layer.bias))
        with torch.no_grad():
            second, bias = torch.cat((x2.weight, h2.weight), 1), x2.bias + h2.bias
        self.weights = cell.Weights(x1.weight, x1.bias, h1.weight, h1.bias, second, bias)
        self.inner = len(x1.bias)
        self.gathered: list[tuple[Tensor, ...]] = []

    def weight_gradients(self) -> tuple[Tensor, ...]:
        """Return gradients of `parameters`, in their order; every block's backward has run."""
        d, d_inner, inner, y, h = (torch.cat(part) for part in zip(*self.gathered, strict=True))
        self.gathered.clear()
        of_x, of_h = d_inner[:, : self.inner], d_inner[:, self.inner :]
        second, bias, first_bias = d.t() @ inner, d.sum(0), d_inner.sum(0)
        return (
            of_x.t() @ y,
            first_bias[: self.inner],
            second[:, : self.inner],
            bias,
            of_h.t() @ h,
            first_bias[self.inner :],
            second[:, self.inner :],
            bias.clone(),
        )


class _Step(torch.autograd.Function):
    """One block's step of a walk."""

    @staticmethod
    def forward(
        ctx: Any, walk: _Walk, y: Tensor, h: Tensor, c: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        h_after, c_after, activated = cell.forward(y, h, c, walk.weights, walk.activation)
        ctx.walk, ctx.first = walk, bool(parameters)
        ctx.save_for_backward(y, h, c, *activated)
        # h_t twice: for its block and for the next step, whose gradients need no sum in between.
        return h_after, h_after.detach(), c_after

    @staticmethod
    def backward(ctx: Any, g_h: Tensor, g_next: Tensor, g_c: Tensor) -> Any:
        walk = ctx.walk
        y, h, c, *activated = ctx.saved_tensors
        outputs, kept = cell.OutputGradients(g_h, g_next, g_c), cell.Activated(*activated)
        gradients = cell.backward(outputs, c, kept, walk.weights, walk.activation)
        walk.gathered.append((gradients.gates, gradients.inner, kept.inner, y, h))
        if ctx.first:
            return None, gradients.y, None, None, *walk.weight_gradients()
        return None, gradients.y, gradients.h, gradients.c


def walks(unit: nn.Module | None) -> TypeGuard[DIALSTM]:
    """Return whether a walk is written for a unit: DIA-LSTM with one cell, no class derived."""
    return type(unit) is DIALSTM and len(unit.cells) == 1


def attend(unit: nn.Module, pooled: Tensor, state: Any) -> tuple[Tensor, Any]:
    """Return `unit(pooled, state)`, by a walk where one is written for the unit.

    Args:
        pooled: GAP(a_t), (B, C).
        state: state that the previous block's call returned, None at the first.
    """
    if not walks(unit):
        return unit(pooled, state)  # type: ignore[no-any-return]
    if state is not None:
        walk, h, c = state
        vector, h, c = _Step.apply(walk, pooled, h, c)
        return vector, (walk, h, c)
    walk, zero = _Walk(unit), torch.zeros_like(pooled)
    # The weights belong to the first block's node: its backward is the last to run.
    vector, h, c = _Step.apply(walk, pooled, zero, zero, *walk.parameters)
    return vector, (walk, h, c)
