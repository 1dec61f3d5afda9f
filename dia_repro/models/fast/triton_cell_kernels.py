"""`cell` in one Triton kernel each way; float32, contiguous."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from dia_repro.models.fast.triton_kernels import activate, gate_gradients, store_outputs

# Rows of the batch and channels that a program works on; a product needs at least 16 rows.
ROWS, CHANNELS = 16, 32
# So all numbers stay in registers, and shared memory is below the 48 KiB of any GPU.
LAUNCH = {"num_warps": 8, "num_stages": 1}


@triton.jit
def _hidden(  # type: ignore[no-untyped-def]
    value,
    weight,
    bias,
    row,
    rows,
    unit,
    width,
    channels,
    inner: tl.constexpr,
    block: tl.constexpr,
    precision: tl.constexpr,
):
    """ReLU(Linear(value)): (rows, C) → (rows, inner)."""
    total = tl.zeros((row.shape[0], inner), tl.float32)
    for start in range(0, channels, block):
        k = start + tl.arange(0, block)
        known = (row < rows)[:, None] & (k < channels)[None, :]
        part = tl.load(value + row[:, None] * channels + k[None, :], known, 0.0)
        weighed = (k < channels)[:, None] & (unit < width)[None, :]
        w = tl.load(weight + unit[None, :] * channels + k[:, None], weighed, 0.0)
        total = tl.dot(part, w, total, input_precision=precision)
    return activate(total + tl.load(bias + unit, unit < width, 0.0)[None, :], 2)


@triton.jit
def _gate(  # type: ignore[no-untyped-def]
    of_x, of_h, second, bias, place, inside, unit, width, precision: tl.constexpr
):
    """A gate before its activation: (rows, inner) twice → (rows, channels)."""
    at = second + place[None, :] * 2 * width + unit[:, None]
    weighed = (unit < width)[:, None] & inside[None, :]
    before = tl.dot(of_x, tl.load(at, weighed, 0.0), input_precision=precision)
    before = tl.dot(of_h, tl.load(at + width, weighed, 0.0), before, input_precision=precision)
    return before + tl.load(bias + place, inside, 0.0)[None, :]


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    y,
    h,
    c,
    x1,
    x1_bias,
    h1,
    h1_bias,
    second,
    bias,
    hidden,
    gates,
    s,
    h_after,
    c_after,
    rows,
    channels,
    width,
    activation: tl.constexpr,
    precision: tl.constexpr,
    inner: tl.constexpr,
    some_rows: tl.constexpr,
    block: tl.constexpr,
):
    row = tl.program_id(0) * some_rows + tl.arange(0, some_rows)
    unit = tl.arange(0, inner)
    of_x = _hidden(y, x1, x1_bias, row, rows, unit, width, channels, inner, block, precision)
    of_h = _hidden(h, h1, h1_bias, row, rows, unit, width, channels, inner, block, precision)
    if tl.program_id(1) == 0:
        at = hidden + row[:, None] * 2 * width + unit[None, :]
        kept = (row < rows)[:, None] & (unit < width)[None, :]
        tl.store(at, of_x, kept)
        tl.store(at + width, of_h, kept)
    column = tl.program_id(1) * block + tl.arange(0, block)
    known = column < channels
    i = tl.sigmoid(_gate(of_x, of_h, second, bias, column, known, unit, width, precision))
    column_f, column_g = column + channels, column + 2 * channels
    f = tl.sigmoid(_gate(of_x, of_h, second, bias, column_f, known, unit, width, precision))
    g = activate(_gate(of_x, of_h, second, bias, column_g, known, unit, width, precision), 1)
    column_o = column + 3 * channels
    o = tl.sigmoid(_gate(of_x, of_h, second, bias, column_o, known, unit, width, precision))
    inside = (row < rows)[:, None] & known[None, :]
    place = row[:, None] * channels + column[None, :]
    gate = row[:, None] * 4 * channels + column[None, :]
    # fmt: off
    store_outputs(
        i, f, g, o, c, h_after, c_after, gates, s, place, gate, inside, channels, activation
    )
    # fmt: on


@triton.jit
def _before_gate(  # type: ignore[no-untyped-def]
    of_x, of_h, d, second, place, inside, unit, width, precision: tl.constexpr
):
    """Add a gate's part to gradients of both hidden layers."""
    at = second + place[:, None] * 2 * width + unit[None, :]
    weighed = inside[:, None] & (unit < width)[None, :]
    of_x = tl.dot(d, tl.load(at, weighed, 0.0), of_x, input_precision=precision)
    return of_x, tl.dot(d, tl.load(at + width, weighed, 0.0), of_h, input_precision=precision)


@triton.jit
def _before_hidden(  # type: ignore[no-untyped-def]
    d, weight, to, row, rows, unit, width, channels, block: tl.constexpr, precision: tl.constexpr
):
    """Store the gradient of a first layer's input."""
    for start in range(0, channels, block):
        k = start + tl.arange(0, block)
        weighed = (unit < width)[:, None] & (k < channels)[None, :]
        w = tl.load(weight + unit[:, None] * channels + k[None, :], weighed, 0.0)
        inside = (row < rows)[:, None] & (k < channels)[None, :]
        product = tl.dot(d, w, input_precision=precision)
        tl.store(to + row[:, None] * channels + k[None, :], product, inside)


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    g_h,
    g_next,
    g_c,
    c,
    hidden,
    gates,
    s,
    x1,
    h1,
    second,
    d,
    d_hidden,
    g_y,
    g_h_before,
    g_c_before,
    rows,
    channels,
    width,
    activation: tl.constexpr,
    precision: tl.constexpr,
    inner: tl.constexpr,
    some_rows: tl.constexpr,
    block: tl.constexpr,
):
    row = tl.program_id(0) * some_rows + tl.arange(0, some_rows)
    unit = tl.arange(0, inner)
    of_x = tl.zeros((some_rows, inner), tl.float32)
    of_h = tl.zeros((some_rows, inner), tl.float32)
    for start in range(0, channels, block):
        column = start + tl.arange(0, block)
        known = column < channels
        inside = (row < rows)[:, None] & known[None, :]
        place = row[:, None] * channels + column[None, :]
        gate = row[:, None] * 4 * channels + column[None, :]
        # fmt: off
        d_i, d_f, d_g, d_o = gate_gradients(
            g_h, g_next, g_c, gates, c, s, d, g_c_before, place, gate, inside, channels, activation
        )
        # fmt: on
        of_x, of_h = _before_gate(of_x, of_h, d_i, second, column, known, unit, width, precision)
        column += channels
        of_x, of_h = _before_gate(of_x, of_h, d_f, second, column, known, unit, width, precision)
        column += channels
        of_x, of_h = _before_gate(of_x, of_h, d_g, second, column, known, unit, width, precision)
        column += channels
        of_x, of_h = _before_gate(of_x, of_h, d_o, second, column, known, unit, width, precision)
    kept = (row < rows)[:, None] & (unit < width)[None, :]
    at = row[:, None] * 2 * width + unit[None, :]
    of_x = tl.where(tl.load(hidden + at, kept, 0.0) <= 0, 0.0, of_x)
    of_h = tl.where(tl.load(hidden + at + width, kept, 0.0) <= 0, 0.0, of_h)
    tl.store(d_hidden + at, of_x, kept)
    tl.store(d_hidden + at + width, of_h, kept)
    _before_hidden(of_x, x1, g_y, row, rows, unit, width, channels, block, precision)
    _before_hidden(of_h, h1, g_h_before, row, rows, unit, width, channels, block, precision)


def _constants(activation: int, width: int) -> dict[str, Any]:
    tf32 = torch.backends.cuda.matmul.allow_tf32
    return {
        "activation": activation,
        "precision": "tf32" if tf32 else "ieee",
        "inner": max(16, triton.next_power_of_2(width)),
        "some_rows": ROWS,
        "block": CHANNELS,
        **LAUNCH,
    }


def forward(
    y: Tensor, h: Tensor, c: Tensor, weights: Sequence[Tensor], activation: int
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
    """As `cell.forward`."""
    (rows, channels), width = y.shape, len(weights[0])
    inner, gates = y.new_empty(rows, 2 * width), y.new_empty(rows, 4 * channels)
    s, h_after, c_after = torch.empty_like(c), torch.empty_like(c), torch.empty_like(c)
    grid = (triton.cdiv(rows, ROWS), triton.cdiv(channels, CHANNELS))
    given = (y.contiguous(), h.contiguous(), c.contiguous(), *weights)
    made = (inner, gates, s, h_after, c_after)
    _forward[grid](*given, *made, rows, channels, width, **_constants(activation, width))
    return h_after, c_after, (inner, gates, s)


def backward(
    outputs: Sequence[Tensor],
    c: Tensor,
    activated: Sequence[Tensor],
    first_x: Tensor,
    first_h: Tensor,
    second: Tensor,
    activation: int,
) -> tuple[Tensor, ...]:
    """As `cell.backward`, with the weights of the first and second layers."""
    (rows, channels), width = c.shape, len(first_x)
    inner, gates, s = activated
    made = tuple(torch.empty_like(each) for each in (gates, inner, s, s, s))
    given = (*(g.contiguous() for g in outputs), c.contiguous(), inner, gates, s)
    sizes = (rows, channels, width)
    grid = (triton.cdiv(rows, ROWS),)
    constants = _constants(activation, width)
    _backward[grid](*given, first_x, first_h, second, *made, *sizes, **constants)
    return made
