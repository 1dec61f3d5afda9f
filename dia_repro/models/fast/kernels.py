"""Passes over a block's activations on a CPU, each reading what it needs once.

All take the addresses of float32 arrays (`places`, `…_at`), since making an array of a tensor costs
more than a small pass does. `shape` is that of the activations, (B, P, C): images, pixels,
channels, channels last and contiguous. Statistics and BN's own vectors are (C,), vectors of an
image (B, C). `bn_at` is the address of each of BN's vectors: mean, 1/√(variance + ε), γ and δ.

Values that are not finite go through as in torch: relu(nan) is nan. Sums go image by image, so
results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import FunctionType
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numba import carray, njit, prange, types
from numba.extending import intrinsic

from dia_repro.models.fast.jit import cached_njit

F = TypeVar("F", bound=Callable[..., None])
Shape = tuple[int, int, int]
Addresses = tuple[int, int, int, int]
LEAST_FOR_THREADS = 1 << 14


def compiled(function: F) -> F:
    """Compile a function when it is first needed, and keep it on disk where that can be written.

    Small arrays go through one thread: waking others takes longer than their part of the work.

    Strict arithmetic: given leave to reorder, numba's fresh code and the code that it reads back
    from disk round differently, and a first run could not be repeated.
    """

    @wraps(function)
    def call(shape: Shape, *others: Any) -> None:
        images, pixels, channels = shape
        large = images * pixels * channels >= LEAST_FOR_THREADS and torch.get_num_threads() > 1
        (parallel if large else serial)(shape, *others)

    serial, parallel = _compiled(function, parallel=False), _compiled(function, parallel=True)
    return cast("F", call)


def _compiled(function: F, *, parallel: bool) -> F:
    # A copy, since the two ways would overwrite each other's code on disk.
    name = f"{function.__name__}_{'many' if parallel else 'one'}"
    copy = FunctionType(function.__code__, function.__globals__, name, function.__defaults__)
    copy.__qualname__, copy.__module__ = name, function.__module__
    return cast("F", cached_njit(parallel=parallel, nogil=True)(copy))


@intrinsic
def _pointer(_typing: Any, address: Any) -> Any:
    """Return an address as a pointer to float32."""
    signature = types.CPointer(types.float32)(address)

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        pointer = _context.get_value_type(types.CPointer(types.float32))
        return builder.inttoptr(arguments[0], pointer)

    return signature, generate


@njit(inline="always")
def at(address: Any, shape: Any) -> Any:
    """Return the float32 array of a shape at an address."""
    return carray(_pointer(address), shape)


@njit(inline="always")
def vectors(addresses: Any, channels: Any) -> Any:
    """Return the four (C,) arrays of BN."""
    mean, inverse, weight, bias = addresses
    return at(mean, channels), at(inverse, channels), at(weight, channels), at(bias, channels)


@compiled
def moments(
    shape: Shape, places: tuple[int, ...], bn_at: Addresses, momentum: float, eps: float
) -> None:
    """Means over pixels; BN's mean and 1/√(variance + ε) over images and pixels.

    Moves BN's running mean and variance. Deviations are summed from the first pixel's value: no
    cancellation where the mean is large.

    Args:
        places: addresses of u, BN's running mean and variance, and the means over pixels, (B, C).
    """
    images, pixels, channels = shape
    u_at, running_mean_at, running_var_at, pooled_at = places
    u, pooled = at(u_at, shape), at(pooled_at, (images, channels))
    running_mean, running_var = at(running_mean_at, channels), at(running_var_at, channels)
    mean, inverse, _, _ = vectors(bn_at, channels)
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
    totals, total_squares = np.zeros(channels), np.zeros(channels)
    for b in range(images):
        for c in range(channels):
            totals[c] += pooled[b, c]
            total_squares[c] += squares[b, c]
            pooled[b, c] = start[c] + pooled[b, c] / pixels
    for c in range(channels):
        centre = totals[c] / count
        mean[c] = start[c] + centre
        var = max(total_squares[c] / count - centre * centre, 0.0)
        inverse[c] = 1 / np.sqrt(var + eps)
        unbiased = var * count / max(count - 1, 1)
        running_mean[c] += momentum * (mean[c] - running_mean[c])
        running_var[c] += momentum * (unbiased - running_var[c])


@compiled
def add(
    shape: Shape,
    places: tuple[int, ...],
    bn_at: Addresses,
    scaled: bool,
    added: bool,
    relu: bool,
) -> None:
    """Y = [relu]([x +] [h ·] BN(u)).

    Args:
        places: addresses of u, of h (B, C), read where `scaled`, of x, read where `added`, and
            of y.
    """
    images, pixels, channels = shape
    u_at, h_at, x_at, y_at = places
    u, x, y = at(u_at, shape), at(x_at, shape), at(y_at, shape)
    h = np.ones((images, channels), np.float32)
    if scaled:
        h = at(h_at, (images, channels))
    mean, inverse, weight, bias = vectors(bn_at, channels)
    zero = np.float32(0)
    for b in prange(images):
        slope = weight * inverse * h[b]
        shift = bias * h[b]
        for p in range(pixels):
            if added:
                for c in range(channels):
                    y[b, p, c] = x[b, p, c] + (slope[c] * (u[b, p, c] - mean[c]) + shift[c])
            else:
                for c in range(channels):
                    y[b, p, c] = slope[c] * (u[b, p, c] - mean[c]) + shift[c]
            if relu:
                for c in range(channels):
                    y[b, p, c] = zero if y[b, p, c] <= zero else y[b, p, c]


@compiled
def add_backward(shape: Shape, places: tuple[int, ...], bn_at: Addresses, relu: bool) -> None:
    """Gradients of x (before the ReLU) and of h; of each image Σg and Σg·(u - μ), (2, B, C).

    Without a ReLU the gradient of x is g, and is not written.

    Args:
        places: addresses of g, y and u, and of the results: gradient of x, sums, gradient of h.
    """
    images, pixels, channels = shape
    g_at, y_at, u_at, g_x_at, sums_at, g_h_at = places
    g, y, u, g_x = at(g_at, shape), at(y_at, shape), at(u_at, shape), at(g_x_at, shape)
    sums, g_h = at(sums_at, (2, images, channels)), at(g_h_at, (images, channels))
    mean, inverse, weight, bias = vectors(bn_at, channels)
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
def norm_backward(
    shape: Shape,
    places: tuple[int, ...],
    bn_at: Addresses,
    scaled: bool,
    g_at: tuple[int, int, int],
) -> None:
    """Gradients of u, γ and δ from that of [h ·] BN(u) and, where `scaled`, of GAP(BN(u)).

    At BN's output the gradient is g_x·h + g_pooled/P; BN's backward subtracts its mean and its
    projection on BN's input.

    Args:
        places: addresses of g_x, u and the sums of `add_backward`; of means of u over pixels, h
            and g_pooled, (B, C); h and g_pooled are read only where `scaled`.
        g_at: addresses of the gradients.
    """
    images, pixels, channels = shape
    g_x_at, u_at, sums_at, pooled_at, h_at, g_pooled_at = places
    g_x, u, g_u = at(g_x_at, shape), at(u_at, shape), at(g_at[0], shape)
    g_weight, g_bias = at(g_at[1], channels), at(g_at[2], channels)
    sums, vector = at(sums_at, (2, images, channels)), (images, channels)
    pooled = at(pooled_at, vector)
    h, g_pooled = np.ones(vector, np.float32), np.zeros(vector, np.float32)
    if scaled:
        h, g_pooled = at(h_at, vector), at(g_pooled_at, vector)
    mean, inverse, weight, _ = vectors(bn_at, channels)
    count = images * pixels
    shift, tilt = np.empty(channels, np.float32), np.empty(channels, np.float32)
    slope = weight * inverse
    totals, products = np.zeros(channels), np.zeros(channels)
    for b in range(images):
        for c in range(channels):
            totals[c] += sums[0, b, c] * h[b, c] + g_pooled[b, c]
            products[c] += sums[1, b, c] * h[b, c] + g_pooled[b, c] * (pooled[b, c] - mean[c])
    for c in range(channels):
        g_bias[c] = totals[c]
        g_weight[c] = inverse[c] * products[c]
        shift[c] = totals[c] / count
        tilt[c] = inverse[c] * inverse[c] * products[c] / count
    for b in prange(images):
        own = g_pooled[b] / np.float32(pixels) - shift
        for p in range(pixels):
            for c in range(channels):
                g_u[b, p, c] = slope[c] * (
                    h[b, c] * g_x[b, p, c] + own[c] - tilt[c] * (u[b, p, c] - mean[c])
                )


@compiled
def gates_backward(shape: Shape, places: tuple[int, ...], activation: int) -> None:
    """Backward of eq. 1's elementwise part.

    Args:
        places: addresses, (B, C) each but for (*), (B, 4C): of the gradients of h_t from its own
            block and from the next one, and of c_t from the next one; of σ(i), σ(f), tanh(g) and
            σ(o) (*); of c_{t-1}, and the output activation of c_t; of the results, which are the
            gradients before the gates' activations (*) and of c_{t-1}.
        activation: a value of `gates.ACTIVATIONS`.
    """
    images, _, channels = shape
    vector, of_gates = (images, channels), (images, 4 * channels)
    g_h_at, g_next_at, g_c_at, gates_at, c_at, s_at, d_at, g_c_before_at = places
    g_h, g_next, g_c = at(g_h_at, vector), at(g_next_at, vector), at(g_c_at, vector)
    gates, c_before, s = at(gates_at, of_gates), at(c_at, vector), at(s_at, vector)
    d, g_c_before = at(d_at, of_gates), at(g_c_before_at, vector)
    unity = np.float32(1)
    for b in prange(images):
        for k in range(channels):
            i = gates[b, k]
            f = gates[b, channels + k]
            g = gates[b, 2 * channels + k]
            o = gates[b, 3 * channels + k]
            v = s[b, k]
            if activation == 0:
                slope = v * (unity - v)
            elif activation == 1:
                slope = unity - v * v
            else:
                slope = unity if v > 0 else unity - unity
            dh = g_h[b, k] + g_next[b, k]
            dc = g_c[b, k] + dh * o * slope
            d[b, k] = dc * g * i * (unity - i)
            d[b, channels + k] = dc * c_before[b, k] * f * (unity - f)
            d[b, 2 * channels + k] = dc * i * (unity - g * g)
            d[b, 3 * channels + k] = dh * v * o * (unity - o)
            g_c_before[b, k] = dc * f
