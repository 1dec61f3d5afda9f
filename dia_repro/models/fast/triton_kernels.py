"""`gates` in one Triton kernel each way; float32, contiguous."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 256


@triton.jit
def activate(x, activation: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return sigmoid, tanh or ReLU of x, by its value in `gates.ACTIVATIONS`."""
    if activation == 0:
        return tl.sigmoid(x)
    if activation == 1:
        return 2 * tl.sigmoid(2 * x) - 1
    return tl.where(x <= 0, 0.0, x)


@triton.jit
def slope(activated, activation: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return an activation's derivative, from its result."""
    if activation == 0:
        return activated * (1 - activated)
    if activation == 1:
        return 1 - activated * activated
    return tl.where(activated > 0, 1.0, 0.0)


@triton.jit
def store_outputs(  # type: ignore[no-untyped-def]
    i,
    f,
    g,
    o,
    c,
    h,
    after,
    gates,
    s,
    place,
    gate,
    inside,
    channels,
    activation: tl.constexpr,
):
    """Store a step's outputs, from its activated gates.

    Args:
        i, f, g, o: the gates where `inside` says so; other arguments are addresses.
        place, gate: where these elements are in arrays of (B, C), and i's in the gates' (B, 4C).
    """
    new = f * tl.load(c + place, inside, 0.0) + i * g
    act = activate(new, activation)
    tl.store(gates + gate, i, inside)
    tl.store(gates + gate + channels, f, inside)
    tl.store(gates + gate + 2 * channels, g, inside)
    tl.store(gates + gate + 3 * channels, o, inside)
    tl.store(after + place, new, inside)
    tl.store(s + place, act, inside)
    tl.store(h + place, o * act, inside)


@triton.jit
def gate_gradients(  # type: ignore[no-untyped-def]
    g_h,
    g_next,
    g_c,
    gates,
    c,
    s,
    d,
    g_before,
    place,
    gate,
    inside,
    channels,
    activation: tl.constexpr,
):
    """Store and return gradients of the gates before their activations; store that of c_{t-1}.

    Args:
        place, gate, inside: as in `store_outputs`.
    """
    i = tl.load(gates + gate, inside, 0.0)
    f = tl.load(gates + gate + channels, inside, 0.0)
    g = tl.load(gates + gate + 2 * channels, inside, 0.0)
    o = tl.load(gates + gate + 3 * channels, inside, 0.0)
    act = tl.load(s + place, inside, 0.0)
    of_h = tl.load(g_h + place, inside, 0.0) + tl.load(g_next + place, inside, 0.0)
    of_c = tl.load(g_c + place, inside, 0.0) + of_h * o * slope(act, activation)
    d_i = of_c * g * i * (1 - i)
    d_f = of_c * tl.load(c + place, inside, 0.0) * f * (1 - f)
    d_g = of_c * i * (1 - g * g)
    d_o = of_h * act * o * (1 - o)
    tl.store(d + gate, d_i, inside)
    tl.store(d + gate + channels, d_f, inside)
    tl.store(d + gate + 2 * channels, d_g, inside)
    tl.store(d + gate + 3 * channels, d_o, inside)
    tl.store(g_before + place, of_c * f, inside)
    return d_i, d_f, d_g, d_o


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    before, c, h, after, gates, s, channels, total, activation: tl.constexpr, block: tl.constexpr
):
    place = tl.program_id(0) * block + tl.arange(0, block)
    inside = place < total
    gate = place // channels * 4 * channels + place % channels
    i = tl.sigmoid(tl.load(before + gate, inside, 0.0))
    f = tl.sigmoid(tl.load(before + gate + channels, inside, 0.0))
    g = activate(tl.load(before + gate + 2 * channels, inside, 0.0), 1)
    o = tl.sigmoid(tl.load(before + gate + 3 * channels, inside, 0.0))
    store_outputs(i, f, g, o, c, h, after, gates, s, place, gate, inside, channels, activation)


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    g_h,
    g_next,
    g_c,
    gates,
    c,
    s,
    d,
    g_before,
    channels,
    total,
    activation: tl.constexpr,
    block: tl.constexpr,
):
    place = tl.program_id(0) * block + tl.arange(0, block)
    inside = place < total
    gate = place // channels * 4 * channels + place % channels
    # fmt: off
    gate_gradients(
        g_h, g_next, g_c, gates, c, s, d, g_before, place, gate, inside, channels, activation
    )
    # fmt: on


def forward(before: Tensor, c: Tensor, activation: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `gates.forward_plain`."""
    before, c = before.contiguous(), c.contiguous()
    gates = torch.empty_like(before)
    h, after, s = torch.empty_like(c), torch.empty_like(c), torch.empty_like(c)
    grid = (triton.cdiv(c.numel(), BLOCK),)
    _forward[grid](before, c, h, after, gates, s, c.shape[1], c.numel(), activation, BLOCK)
    return h, after, gates, s


def backward(
    g_h: Tensor, g_next: Tensor, g_c: Tensor, gates: Tensor, c: Tensor, s: Tensor, activation: int
) -> tuple[Tensor, Tensor]:
    """As `gates.backward_plain`."""
    d, g_before = torch.empty_like(gates), torch.empty_like(c)
    grid = (triton.cdiv(c.numel(), BLOCK),)
    of_outputs = (g_h.contiguous(), g_next.contiguous(), g_c.contiguous())
    parts = (*of_outputs, gates, c.contiguous(), s)
    _backward[grid](*parts, d, g_before, c.shape[1], c.numel(), activation, BLOCK)
    return d, g_before
