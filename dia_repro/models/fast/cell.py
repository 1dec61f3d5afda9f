"""One step of DIA-LSTM's cell each way (eq. 1): several operations, or one Triton kernel on a GPU.

Both hidden layers stand next to each other, (B, 2I) with I = C/r, so that their second layers are
one product.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dia_repro.models.fast import gates

# A kernel of the whole step reads all weights in each of its programs, so it is for small units:
# products of large ones are faster in the library's kernels.
LARGEST_INNER, LARGEST_CHANNELS = 64, 512


class Weights(NamedTuple):
    """Weights of the step; a layer's weight is (outputs, inputs).

    Attributes:
        x1, x1_bias: first layer for y_t, (I, C) and (I,).
        h1, h1_bias: first layer for h_{t-1}, the same.
        second: the second layers for both next to each other, (4C, 2I).
        bias: the sum of their biases, (4C,).
    """

    x1: Tensor
    x1_bias: Tensor
    h1: Tensor
    h1_bias: Tensor
    second: Tensor
    bias: Tensor


class Activated(NamedTuple):
    """Values that the backward pass of a step needs.

    Attributes:
        inner: hidden layers, (B, 2I).
        gates: activated gates i, f, g and o, (B, 4C).
        s: act(c_t), (B, C).
    """

    inner: Tensor
    gates: Tensor
    s: Tensor


class OutputGradients(NamedTuple):
    """Gradients of a step's outputs, each (B, C).

    Attributes:
        h: of h_t, from the block that it recalibrates.
        following: of h_t, from the next block's step.
        c: of c_t, from the same.
    """

    h: Tensor
    following: Tensor
    c: Tensor


class Gradients(NamedTuple):
    """Gradients that a step's backward pass returns.

    Attributes:
        gates: of the gates before their activations, (B, 4C).
        inner: of the hidden layers before theirs, (B, 2I).
        y, h, c: of y_t, h_{t-1} and c_{t-1}, (B, C).
    """

    gates: Tensor
    inner: Tensor
    y: Tensor
    h: Tensor
    c: Tensor


def forward(
    y: Tensor, h: Tensor, c: Tensor, weights: Weights, activation: int
) -> tuple[Tensor, Tensor, Activated]:
    """Return h_t and c_t, (B, C), and what `backward` needs.

    Args:
        y, h, c: y_t, h_{t-1} and c_{t-1}, (B, C).
        activation: a value of `gates.ACTIVATIONS`.
    """
    if _is_one_kernel(y, weights):
        from dia_repro.models.fast import triton_cell_kernels

        h_after, c_after, kept = triton_cell_kernels.forward(y, h, c, weights, activation)
        return h_after, c_after, Activated(*kept)
    width = len(weights.x1)
    inner = y.new_empty(len(y), 2 * width)
    torch.addmm(weights.x1_bias, y, weights.x1.t(), out=inner[:, :width])
    torch.addmm(weights.h1_bias, h, weights.h1.t(), out=inner[:, width:])
    inner.relu_()
    before = torch.addmm(weights.bias, inner, weights.second.t())
    h_after, c_after, activated, s = gates.forward(before, c, activation)
    return h_after, c_after, Activated(inner, activated, s)


def backward(
    outputs: OutputGradients, c: Tensor, activated: Activated, weights: Weights, activation: int
) -> Gradients:
    """Return the gradients of a step from those of its outputs.

    Args:
        c: c_{t-1}, (B, C).
        activated: what `forward` returned.
        activation: a value of `gates.ACTIVATIONS`.
    """
    if _is_one_kernel(c, weights):
        from dia_repro.models.fast import triton_cell_kernels

        layers = (weights.x1, weights.h1, weights.second)
        made = triton_cell_kernels.backward(outputs, c, activated, *layers, activation)
        return Gradients(*made)
    width = len(weights.x1)
    d, g_c = gates.backward(*outputs, activated.gates, c, activated.s, activation)
    inner = torch.ops.aten.threshold_backward(d @ weights.second, activated.inner, 0)
    g_y, g_h = inner[:, :width] @ weights.x1, inner[:, width:] @ weights.h1
    return Gradients(d, inner, g_y, g_h, g_c)


def _is_one_kernel(y: Tensor, weights: Weights) -> bool:
    small = len(weights.x1) <= LARGEST_INNER and y.shape[1] <= LARGEST_CHANNELS
    return y.device.type == "cuda" and y.dtype == torch.float32 and small
