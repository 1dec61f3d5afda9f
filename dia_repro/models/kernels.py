"""Passes over a block's activations on a CPU, each reading what it needs once.

All take images as (B, P, C): P pixels, channels last, float32, contiguous. What is not finite
goes through as in torch: relu(nan) is nan. Sums go image by image, so results do not depend on
the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
from numba import njit, prange

F = TypeVar("F", bound=Callable[..., None])


def compiled(function: F) -> F:
    """Compiled at the first call and kept on disk, where that can be written.

    Strict arithmetic: given leave to reorder, numba's fresh code and the code that it reads back
    from disk round differently, and a first run could not be repeated.
    """
    try:
        kept = njit(parallel=True, nogil=True, cache=True)(function)
    except RuntimeError:  # no folder to keep it in
        kept = njit(parallel=True, nogil=True)(function)
    return cast("F", kept)


@compiled
def moments(u: np.ndarray, pooled: np.ndarray, mean: np.ndarray, var: np.ndarray) -> None:
    """Means over pixels (B, C); mean and biased variance over images and pixels (C,).

    Deviations are summed from the first pixel's value: no cancellation where the mean is large.
    """
    images, pixels, channels = u.shape
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
    for c in range(channels):
        total, square = 0.0, 0.0
        for b in range(images):
            total += pooled[b, c]
            square += squares[b, c]
            pooled[b, c] = start[c] + pooled[b, c] / pixels
        centre = total / (images * pixels)
        mean[c] = start[c] + centre
        var[c] = max(square / (images * pixels) - centre * centre, 0.0)


@compiled
def scale_add(
    u: np.ndarray,
    mean: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    x: np.ndarray,
    add: bool,
    relu: bool,
    y: np.ndarray,
) -> None:
    """Y = [relu]([x +] scale · (u - mean) + shift), with scale and shift (B, C)."""
    images, pixels, channels = u.shape
    zero = np.float32(0)
    for b in prange(images):
        for p in range(pixels):
            if add:
                for c in range(channels):
                    y[b, p, c] = x[b, p, c] + scale[b, c] * (u[b, p, c] - mean[c]) + shift[b, c]
            else:
                for c in range(channels):
                    y[b, p, c] = scale[b, c] * (u[b, p, c] - mean[c]) + shift[b, c]
            if relu:
                for c in range(channels):
                    y[b, p, c] = zero if y[b, p, c] <= zero else y[b, p, c]


@compiled
def gradient_moments(
    g: np.ndarray,
    y: np.ndarray,
    u: np.ndarray,
    mean: np.ndarray,
    relu: bool,
    masked: np.ndarray,
    total: np.ndarray,
    product: np.ndarray,
) -> None:
    """Gradient before the ReLU, and its sums over pixels alone and with u - mean, (B, C)."""
    images, pixels, channels = u.shape
    zero = np.float32(0)
    for b in prange(images):
        for c in range(channels):
            total[b, c] = 0
            product[b, c] = 0
        for p in range(pixels):
            if relu:
                for c in range(channels):
                    masked[b, p, c] = zero if y[b, p, c] <= zero else g[b, p, c]
            else:
                for c in range(channels):
                    masked[b, p, c] = g[b, p, c]
            for c in range(channels):
                total[b, c] += masked[b, p, c]
                product[b, c] += masked[b, p, c] * (u[b, p, c] - mean[c])


@compiled
def gradient_scale(
    g: np.ndarray,
    u: np.ndarray,
    mean: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    slope: np.ndarray,
    out: np.ndarray,
) -> None:
    """Out = scale · g + shift + slope · (u - mean), with scale and shift (B, C), slope (C,)."""
    images, pixels, channels = u.shape
    for b in prange(images):
        for p in range(pixels):
            for c in range(channels):
                out[b, p, c] = (
                    scale[b, c] * g[b, p, c] + shift[b, c] + slope[c] * (u[b, p, c] - mean[c])
                )
