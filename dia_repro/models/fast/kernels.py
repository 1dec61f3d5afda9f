"""Passes over a block's activations on a CPU, each reading what it needs once.

All take the addresses of float32 arrays, since making an array of a tensor costs more than a small
pass does: images as (B, P, C), P pixels, channels last, contiguous; statistics and BN's own
vectors as (C,), those of an image as (B, C). What is not finite goes through as in torch: relu(nan)
is nan. Sums go image by image, so results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import FunctionType
from typing import Any, TypeVar, cast

import numpy as np
from numba import carray, get_num_threads, njit, prange, types
from numba.extending import intrinsic

from dia_repro.models.fast.jit import cached_njit

F = TypeVar("F", bound=Callable[..., None])
LEAST_FOR_THREADS = 1 << 14


def compiled(function: F) -> F:
    """Compiled when first needed and kept on disk, where that can be written.

    Small arrays go through one thread: waking others takes longer than their part of the work.

    Strict arithmetic: given leave to reorder, numba's fresh code and the code that it reads back
    from disk round differently, and a first run could not be repeated.
    """

    @wraps(function)
    def call(images: int, pixels: int, channels: int, *others: Any) -> None:
        large = images * pixels * channels >= LEAST_FOR_THREADS and get_num_threads() > 1
        (many if large else one)(images, pixels, channels, *others)

    one, many = _compiled(function, parallel=False), _compiled(function, parallel=True)
    return cast("F", call)


def _compiled(function: F, *, parallel: bool) -> F:
    # A copy, since the two ways would overwrite each other's code on disk.
    name = f"{function.__name__}_{'many' if parallel else 'one'}"
    copy = FunctionType(function.__code__, function.__globals__, name, function.__defaults__)
    copy.__qualname__, copy.__module__ = name, function.__module__
    return cast("F", cached_njit(parallel=parallel, nogil=True)(copy))


@intrinsic
def _pointer(_typing: Any, address: Any) -> Any:
    """An address as a pointer to float32."""
    signature = types.CPointer(types.float32)(address)

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        pointer = _context.get_value_type(types.CPointer(types.float32))
        return builder.inttoptr(arguments[0], pointer)

    return signature, generate


@njit(inline="always")
def at(address: Any, shape: Any) -> Any:
    """The float32 array of a shape at an address."""
    return carray(_pointer(address), shape)


@compiled
def moments(
    images: int,
    pixels: int,
    channels: int,
    u_at: int,
    running_mean_at: int,
    running_var_at: int,
    momentum: float,
    eps: float,
    pooled_at: int,
    mean_at: int,
    inverse_at: int,
) -> None:
    """Means over pixels; BN's mean and 1/√(variance + ε) over images and pixels.

    Moves BN's running statistics. Deviations are summed from the first pixel's value: no
    cancellation where the mean is large.
    """
    u = at(u_at, (images, pixels, channels))
    pooled = at(pooled_at, (images, channels))
    running_mean, running_var, mean = (
        at(running_mean_at, channels),
        at(running_var_at, channels),
        at(mean_at, channels),
    )
    inverse = at(inverse_at, channels)
    squares = np.empty((images, channels), np.float32)
    start = u[0, 0].copy()
    for b in prange(images):
        for c in range(channels):
            pooled[b, c] = 0
            squares[b, c] = 0
        for p in range(pixels):
            for c in range(channels):
                v = u[b, p, c] - start[c]
                pooled[b, c] += v
                squares[b, c] += v * v
    count = images * pixels
    for c in range(channels):
        total, square = 0.0, 0.0
        for b in range(images):
            total += pooled[b, c]
            square += squares[b, c]
            pooled[b, c] = start[c] + pooled[b, c] / pixels
        centre = total / count
        mean[c] = start[c] + centre
        var = max(square / count - centre * centre, 0.0)
        inverse[c] = 1 / np.sqrt(var + eps)
        unbiased = var * count / max(count - 1, 1)
        running_mean[c] += momentum * (mean[c] - running_mean[c])
        running_var[c] += momentum * (unbiased - running_var[c])


@compiled
def normalise_add(
    images: int,
    pixels: int,
    channels: int,
    u_at: int,
    mean_at: int,
    inverse_at: int,
    weight_at: int,
    bias_at: int,
    x_at: int,
    add: bool,
    relu: bool,
    y_at: int,
) -> None:
    """Y = [relu]([x +] BN(u))."""
    u, x, y = (
        at(u_at, (images, pixels, channels)),
        at(x_at, (images, pixels, channels)),
        at(y_at, (images, pixels, channels)),
    )
    mean, inverse, weight = at(mean_at, channels), at(inverse_at, channels), at(weight_at, channels)
    bias = at(bias_at, channels)
    zero = np.float32(0)
    slope = weight * inverse
    for b in prange(images):
        for p in range(pixels):
            if add:
                for c in range(channels):
                    y[b, p, c] = x[b, p, c] + (slope[c] * (u[b, p, c] - mean[c]) + bias[c])
            else:
                for c in range(channels):
                    y[b, p, c] = slope[c] * (u[b, p, c] - mean[c]) + bias[c]
            if relu:
                for c in range(channels):
                    y[b, p, c] = zero if y[b, p, c] <= zero else y[b, p, c]


@compiled
def normalise_add_backward(
    images: int,
    pixels: int,
    channels: int,
    g_at: int,
    y_at: int,
    u_at: int,
    mean_at: int,
    inverse_at: int,
    weight_at: int,
    relu: bool,
    keep: bool,
    g_x_at: int,
    g_u_at: int,
    g_weight_at: int,
    g_bias_at: int,
) -> None:
    """Gradients of u, γ and δ; with `keep` also that of x, which is g where y passed the ReLU."""
    g, y, u = (
        at(g_at, (images, pixels, channels)),
        at(y_at, (images, pixels, channels)),
        at(u_at, (images, pixels, channels)),
    )
    g_x, g_u = at(g_x_at, (images, pixels, channels)), at(g_u_at, (images, pixels, channels))
    mean, inverse, weight = at(mean_at, channels), at(inverse_at, channels), at(weight_at, channels)
    g_weight, g_bias = at(g_weight_at, channels), at(g_bias_at, channels)
    zero = np.float32(0)
    sums = np.zeros((2, images, channels), np.float32)
    for b in prange(images):
        for p in range(pixels):
            if relu:
                for c in range(channels):
                    v = zero if y[b, p, c] <= zero else g[b, p, c]
                    sums[0, b, c] += v
                    sums[1, b, c] += v * (u[b, p, c] - mean[c])
            else:
                for c in range(channels):
                    v = g[b, p, c]
                    sums[0, b, c] += v
                    sums[1, b, c] += v * (u[b, p, c] - mean[c])
    shift, tilt = np.empty(channels, np.float32), np.empty(channels, np.float32)
    slope = weight * inverse
    count = images * pixels
    for c in range(channels):
        total, product = 0.0, 0.0
        for b in range(images):
            total += sums[0, b, c]
            product += sums[1, b, c]
        g_bias[c] = total
        g_weight[c] = inverse[c] * product
        shift[c] = total / count
        tilt[c] = inverse[c] * inverse[c] * product / count
    for b in prange(images):
        for p in range(pixels):
            if relu:
                for c in range(channels):
                    v = zero if y[b, p, c] <= zero else g[b, p, c]
                    g_u[b, p, c] = slope[c] * (v - shift[c] - tilt[c] * (u[b, p, c] - mean[c]))
                    if keep:
                        g_x[b, p, c] = v
            else:
                for c in range(channels):
                    v = g[b, p, c]
                    g_u[b, p, c] = slope[c] * (v - shift[c] - tilt[c] * (u[b, p, c] - mean[c]))


@compiled
def recalibrate_add(
    images: int,
    pixels: int,
    channels: int,
    u_at: int,
    mean_at: int,
    inverse_at: int,
    weight_at: int,
    bias_at: int,
    h_at: int,
    x_at: int,
    add: bool,
    relu: bool,
    y_at: int,
) -> None:
    """Y = [relu]([x +] h · BN(u)), with h (B, C)."""
    u, x, y = (
        at(u_at, (images, pixels, channels)),
        at(x_at, (images, pixels, channels)),
        at(y_at, (images, pixels, channels)),
    )
    h = at(h_at, (images, channels))
    mean, inverse, weight = at(mean_at, channels), at(inverse_at, channels), at(weight_at, channels)
    bias = at(bias_at, channels)
    zero = np.float32(0)
    for b in prange(images):
        slope = weight * inverse * h[b]
        shift = bias * h[b]
        for p in range(pixels):
            if add:
                for c in range(channels):
                    y[b, p, c] = x[b, p, c] + (slope[c] * (u[b, p, c] - mean[c]) + shift[c])
            else:
                for c in range(channels):
                    y[b, p, c] = slope[c] * (u[b, p, c] - mean[c]) + shift[c]
            if relu:
                for c in range(channels):
                    y[b, p, c] = zero if y[b, p, c] <= zero else y[b, p, c]


@compiled
def recalibrate_backward(
    images: int,
    pixels: int,
    channels: int,
    g_at: int,
    y_at: int,
    u_at: int,
    mean_at: int,
    inverse_at: int,
    weight_at: int,
    bias_at: int,
    relu: bool,
    g_x_at: int,
    sums_at: int,
    g_h_at: int,
) -> None:
    """Gradients of x (before the ReLU) and of h; of each image Σg and Σg·(u - μ), (2, B, C)."""
    g, y, u = (
        at(g_at, (images, pixels, channels)),
        at(y_at, (images, pixels, channels)),
        at(u_at, (images, pixels, channels)),
    )
    g_x = at(g_x_at, (images, pixels, channels))
    sums = at(sums_at, (2, images, channels))
    g_h = at(g_h_at, (images, channels))
    mean, inverse, weight = at(mean_at, channels), at(inverse_at, channels), at(weight_at, channels)
    bias = at(bias_at, channels)
    zero = np.float32(0)
    for b in prange(images):
        for c in range(channels):
            sums[0, b, c] = 0
            sums[1, b, c] = 0
        for p in range(pixels):
            if relu:
                for c in range(channels):
                    v = zero if y[b, p, c] <= zero else g[b, p, c]
                    g_x[b, p, c] = v
                    sums[0, b, c] += v
                    sums[1, b, c] += v * (u[b, p, c] - mean[c])
            else:
                for c in range(channels):
                    v = g[b, p, c]
                    sums[0, b, c] += v
                    sums[1, b, c] += v * (u[b, p, c] - mean[c])
        for c in range(channels):
            g_h[b, c] = weight[c] * inverse[c] * sums[1, b, c] + bias[c] * sums[0, b, c]


@compiled
def recalibrated_norm_backward(
    images: int,
    pixels: int,
    channels: int,
    g_x_at: int,
    u_at: int,
    pooled_at: int,
    mean_at: int,
    inverse_at: int,
    weight_at: int,
    h_at: int,
    g_pooled_at: int,
    sums_at: int,
    g_u_at: int,
    g_weight_at: int,
    g_bias_at: int,
) -> None:
    """Gradients of u, γ and δ from those of h · BN(u) and of GAP(BN(u)).

    At BN's output the gradient is g_x·h + g_pooled/P; BN's backward subtracts its mean and its
    projection on BN's input.
    """
    g_x, u, g_u = (
        at(g_x_at, (images, pixels, channels)),
        at(u_at, (images, pixels, channels)),
        at(g_u_at, (images, pixels, channels)),
    )
    sums = at(sums_at, (2, images, channels))
    pooled, h, g_pooled = (
        at(pooled_at, (images, channels)),
        at(h_at, (images, channels)),
        at(g_pooled_at, (images, channels)),
    )
    mean, inverse, weight = at(mean_at, channels), at(inverse_at, channels), at(weight_at, channels)
    g_weight, g_bias = at(g_weight_at, channels), at(g_bias_at, channels)
    count = images * pixels
    shift, tilt = np.empty(channels, np.float32), np.empty(channels, np.float32)
    slope = weight * inverse
    for c in range(channels):
        total, product = 0.0, 0.0
        for b in range(images):
            total += sums[0, b, c] * h[b, c] + g_pooled[b, c]
            product += sums[1, b, c] * h[b, c] + g_pooled[b, c] * (pooled[b, c] - mean[c])
        g_bias[c] = total
        g_weight[c] = inverse[c] * product
        shift[c] = total / count
        tilt[c] = inverse[c] * inverse[c] * product / count
    for b in prange(images):
        own = g_pooled[b] / np.float32(pixels) - shift
        for p in range(pixels):
            for c in range(channels):
                g_u[b, p, c] = slope[c] * (
                    h[b, c] * g_x[b, p, c] + own[c] - tilt[c] * (u[b, p, c] - mean[c])
                )


@compiled
def gates_backward(
    images: int,
    _pixels: int,
    channels: int,
    g_h_at: int,
    g_next_at: int,
    g_c_at: int,
    gates_at: int,
    c_before_at: int,
    s_at: int,
    d_at: int,
    g_c_before_at: int,
    activation: int,
) -> None:
    """Backward of eq. 1's elementwise part, (B, C) each.

    Args:
        g_h: gradient of h_t from its own block; `g_next`: from the next one.
        g_c: of c_t, from the next block.
        gates: σ(i), σ(f), tanh(g), σ(o), (B, 4C).
        c_before: c_{t-1}.
        s: the output activation of c_t.
        activation: which one: 0 sigmoid, 1 tanh, 2 ReLU.
        d: receives the gradient before the gates' activations, (B, 4C).
        g_c_before: receives that of c_{t-1}.
    """
    gates, d = at(gates_at, (images, 4 * channels)), at(d_at, (images, 4 * channels))
    g_h, g_next, g_c = (
        at(g_h_at, (images, channels)),
        at(g_next_at, (images, channels)),
        at(g_c_at, (images, channels)),
    )
    c_before = at(c_before_at, (images, channels))
    s, g_c_before = at(s_at, (images, channels)), at(g_c_before_at, (images, channels))
    one = np.float32(1)
    for b in prange(images):
        for k in range(channels):
            i = gates[b, k]
            f = gates[b, channels + k]
            g = gates[b, 2 * channels + k]
            o = gates[b, 3 * channels + k]
            v = s[b, k]
            if activation == 0:
                slope = v * (one - v)
            elif activation == 1:
                slope = one - v * v
            else:
                slope = one if v > 0 else one - one
            dh = g_h[b, k] + g_next[b, k]
            dc = g_c[b, k] + dh * o * slope
            d[b, k] = dc * g * i * (one - i)
            d[b, channels + k] = dc * c_before[b, k] * f * (one - f)
            d[b, 2 * channels + k] = dc * i * (one - g * g)
            d[b, 3 * channels + k] = dh * v * o * (one - o)
            g_c_before[b, k] = dc * f
