"""A stage with DIA-LSTM through the compiler: the unit is walked, what lies between is compiled.

Compiled as a part of each block, the unit costs about 60 kernels a block, since its weights'
gradients are computed in each block and added up. Its walk (`dia_repro.models.fast.unit`) takes two
in a small unit, ten in a large one.
So the compiler gets what lies between two calls of the unit: the end of a block (recalibration,
addition, ReLU) together with the next block's layers.

BN(u) = α·u + δ at the end of a branch, with α and δ of each channel. So recalibrated BN is affine
in u for each image and channel, GAP(BN(u)) in the mean of u, and one pass over u gives all moments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from dia_repro.models.attention.dia_lstm import DIALSTM
from dia_repro.models.blocks import ResidualBlock
from dia_repro.models.fast.unit import attend


class _Open(NamedTuple):
    """A block up to its attention.

    Attributes:
        carried: output of the shortcut, (B, C, H, W), or None.
        u: the branch without the BN at its end, (B, C, H, W).
        alpha, delta: that BN, both (C,), or None where there is none.
        pooled: GAP of the branch's output, (B, C).
    """

    carried: Tensor | None
    u: Tensor
    alpha: Tensor | None
    delta: Tensor | None
    pooled: Tensor


def _accumulated(u: Tensor) -> Tensor:
    return u.to(torch.promote_types(u.dtype, torch.float32))


def _affine(u: Tensor, bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor, Tensor]:
    """Return α and δ of BN, both (C,), and GAP(BN(u)), (B, C); move BN's running statistics."""
    running_mean, running_var = cast("tuple[Tensor, Tensor]", (bn.running_mean, bn.running_var))
    if bn.training:
        # Moments of each image, whose combination cancels nothing.
        variances, means = torch.var_mean(_accumulated(u), (2, 3), correction=0)
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        with torch.no_grad():
            count = u.numel() // u.shape[1]
            momentum = cast("float", bn.momentum)
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(variance * (count / (count - 1)), momentum)
    else:
        means, mean, variance = _accumulated(u).mean((2, 3)), running_mean, running_var
    alpha = bn.weight * (variance + bn.eps).rsqrt()
    delta = bn.bias - mean * alpha
    return alpha, delta, means * alpha + delta


def _open(block: ResidualBlock, x: Tensor) -> _Open:
    """Return the block up to its attention; x is (B, C_in, H_in, W_in)."""
    x = block.enter(x)
    *layers, last = block.layers
    u = x
    for layer in layers:
        u = layer(u)
    if isinstance(last, nn.BatchNorm2d):
        alpha, delta, pooled = _affine(u, last)
        return _Open(block.carried(x), u, alpha, delta, pooled)
    u = last(u)
    return _Open(block.carried(x), u, None, None, _accumulated(u).mean((2, 3)))


def _close(opened: _Open, h: Tensor, relu: bool) -> Tensor:
    """Return x_{t+1}, (B, C, H, W), of a block whose unit gave h, (B, C)."""
    carried, u, alpha, delta, _ = opened
    a = u * (h if alpha is None else h * alpha)[:, :, None, None]
    if delta is not None:
        a = a + (h * delta)[:, :, None, None]
    if carried is not None:
        a = a + carried
    return (a.relu() if relu else a).to(u.dtype)


def _between(opened: _Open, h: Tensor, relu: bool, following: ResidualBlock) -> _Open:
    return _open(following, _close(opened, h, relu))


class WalkedStage:
    """The blocks of a stage whose unit can be walked; the same results but for rounding.

    Args:
        unit: the stage's DIA-LSTM, with one cell.
        options: for `torch.compile`.
    """

    def __init__(self, unit: DIALSTM, **options: Any) -> None:
        self._unit = unit
        compiled = partial(torch.compile, dynamic=False, fullgraph=True, **options)
        self._open: Callable[[ResidualBlock, Tensor], _Open] = compiled(_open)
        self._between: Callable[[_Open, Tensor, bool, ResidualBlock], _Open] = compiled(_between)
        self._close: Callable[[_Open, Tensor, bool], Tensor] = compiled(_close)

    def __call__(self, blocks: Sequence[ResidualBlock], x: Tensor) -> Tensor:
        """(B, C_in, H_in, W_in) → (B, C, H, W)."""
        first, *others = blocks
        opened, state = self._open(first, x), None
        for following in others:
            h, state = self._attend(opened.pooled, state)
            opened = self._between(opened, h, first.relu, following)
        h, _ = self._attend(opened.pooled, state)
        return self._close(opened, h, first.relu)

    def _attend(self, pooled: Tensor, state: Any) -> tuple[Tensor, Any]:
        with torch.autocast(pooled.device.type, enabled=False):
            return attend(self._unit, pooled, state)
