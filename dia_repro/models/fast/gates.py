"""The elementwise part of eq. 1 each way: plain, by numba on a CPU, by Triton on a GPU.

Gates stand side by side as i, f, g, o, (B, 4C).
"""

from __future__ import annotations

import torch
from torch import Tensor

ACTIVATIONS = {"sigmoid": 0, "tanh": 1, "relu": 2}
_FORWARD = (torch.sigmoid, torch.tanh, torch.relu)


def forward_plain(
    gates: Tensor, c: Tensor, activation: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One step of the cell.

    Args:
        gates: the gates before their activations, (B, 4C); their memory is used.
        c: c_{t-1}, (B, C).
        activation: a value of `ACTIVATIONS`.

    Returns:
        h_t and c_t, and for the backward pass the activated gates, (B, 4C), and s = act(c_t).
    """
    i, f, g, o = gates.chunk(4, 1)
    gates[:, : 2 * c.shape[1]].sigmoid_()
    g.tanh_()
    o.sigmoid_()
    after = torch.addcmul(f * c, i, g)
    s = _FORWARD[activation](after)
    return o * s, after, gates, s


def backward_plain(
    g_h: Tensor, g_next: Tensor, g_c: Tensor, gates: Tensor, c: Tensor, s: Tensor, activation: int
) -> tuple[Tensor, Tensor]:
    """Gradients of the gates before their activations, (B, 4C), and of c_{t-1}, (B, C).

    Args:
        g_h: gradient of h_t from the block that it recalibrates, (B, C).
        g_next: from the next block's step, (B, C).
        g_c: that of c_t, from the same, (B, C).
        gates, c, s, activation: as in the forward pass.
    """
    g_h = g_h + g_next
    i, f, g, o = gates.chunk(4, 1)
    slope = (s * (1 - s), 1 - s * s, (s > 0).to(s.dtype))[activation]
    g_c = g_c + g_h * o * slope
    parts = (
        g_c * g * i * (1 - i),
        g_c * c * f * (1 - f),
        g_c * i * (1 - g * g),
        g_h * s * o * (1 - o),
    )
    return torch.cat(parts, 1), g_c * f


def forward(gates: Tensor, c: Tensor, activation: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`forward_plain`, as one operation where the device has one."""
    if gates.device.type == "cuda":
        from dia_repro.models.fast import triton_kernels

        return triton_kernels.forward(gates, c, activation)
    return forward_plain(gates, c, activation)


def backward(
    g_h: Tensor, g_next: Tensor, g_c: Tensor, gates: Tensor, c: Tensor, s: Tensor, activation: int
) -> tuple[Tensor, Tensor]:
    """`backward_plain`, as one operation where the device has one."""
    given = (g_h, g_next, g_c, gates, c, s)
    if gates.device.type == "cuda":
        from dia_repro.models.fast import triton_kernels

        return triton_kernels.backward(*given, activation)
    if gates.device.type != "cpu" or gates.dtype != torch.float32:
        return backward_plain(*given, activation)
    from dia_repro.models.fast import kernels

    d, g_c_before = torch.empty_like(gates), torch.empty_like(c)
    kept = [t.contiguous() for t in given]
    addresses = tuple(t.data_ptr() for t in (*kept, d, g_c_before))
    kernels.gates_backward((len(c), 1, c.shape[1]), addresses, activation)
    return d, g_c_before
