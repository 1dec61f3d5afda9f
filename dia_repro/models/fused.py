"""BN, attention, addition and ReLU in one pass over the activations each way; on a CPU.

What a block does after its last convolution is affine in that convolution's output u, for each
image and channel: BN(u) = γ·r·(u - μ) + δ with r = 1/√(var + ε), a = h·BN(u), and GAP(BN(u)) is
affine in the mean of u. So one pass gives BN's statistics and the pooled vector together, a
second one x + a and its ReLU, and nothing in between is ever written. Backward likewise: the
gradients of h, γ and δ need two sums, Σg and Σg·(u - μ), and the gradient of u is affine in g and
u. The formulas are those of the plain modules; `tests/models/test_fused.py` compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Elements of u from which the passes are clearly faster than torch's own, measured on one core.
# Below, as with 8×8 images, they gain little, and loading numba costs a second.
LEAST = 1 << 19


def applies(x: Tensor) -> bool:
    """Whether the passes are written for such a tensor, and worth while."""
    return (
        x.numel() >= LEAST
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def _kernels() -> ModuleType:
    """Loaded when first needed: it brings numba."""
    from dia_repro.models import kernels

    return kernels


def _pixels(x: Tensor) -> np.ndarray:
    """(B, C, H, W), channels last, as (B, P, C) in the same memory."""
    batch, channels, height, width = x.shape
    return x.detach().permute(0, 2, 3, 1).reshape(batch, height * width, channels).numpy()


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


@dataclass
class _Normalised:
    """BN's view of u in one batch.

    Attributes:
        u: (B, C, H, W).
        pooled: means of u over pixels, (B, C).
        mean, inverse: μ and r, (C,).
        weight, bias: γ and δ, (C,).
    """

    u: Tensor
    pooled: Tensor
    mean: Tensor
    inverse: Tensor
    weight: Tensor
    bias: Tensor

    @property
    def count(self) -> int:
        """B·H·W."""
        return self.u.numel() // self.u.shape[1]

    @property
    def pooled_output(self) -> Tensor:
        """GAP(BN(u)), (B, C)."""
        return (self.pooled - self.mean) * (self.weight * self.inverse) + self.bias

    def add(self, x: Tensor | None, h: Tensor | None, *, relu: bool) -> Tensor:
        """[relu]([x +] h·BN(u)); h is 1 if not given."""
        slope, shift = self.weight * self.inverse, self.bias
        shape = self.pooled.shape
        scale = slope.expand(shape) if h is None else slope * h
        shifts = shift.expand(shape) if h is None else shift * h
        y = torch.empty_like(self.u)
        _kernels().scale_add(
            _pixels(self.u),
            self.mean.numpy(),
            scale.contiguous().numpy(),
            shifts.contiguous().numpy(),
            _pixels(self.u if x is None else x),
            x is not None,
            relu,
            _pixels(y),
        )
        return y

    def gradient_sums(self, g: Tensor, y: Tensor, *, relu: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient before the ReLU, and per image and channel Σg and Σg·(u - μ), (B, C)."""
        masked = torch.empty_like(self.u)
        total, product = torch.empty(2, *self.pooled.shape)
        _kernels().gradient_moments(
            _pixels(_channels_last(g)),
            _pixels(y),
            _pixels(self.u),
            self.mean.numpy(),
            relu,
            _pixels(masked),
            total.numpy(),
            product.numpy(),
        )
        return masked, total, product

    def gradients(
        self,
        masked: Tensor,
        total: Tensor,
        product: Tensor,
        h: Tensor | None = None,
        g_pooled: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of u, γ and δ from those of the output and of the pooled vector.

        The gradient at BN's output is g·h + g_pooled/(H·W); BN's backward subtracts its mean
        and its projection on BN's input.
        """
        if h is not None:
            total, product = total * h, product * h
        extra = torch.zeros_like(self.pooled) if g_pooled is None else g_pooled
        g_bias = (total + extra).sum(0)
        g_weight = self.inverse * (product + extra * (self.pooled - self.mean)).sum(0)
        slope = self.weight * self.inverse
        scale = slope.expand(self.pooled.shape) if h is None else slope * h
        pixels = self.count // len(self.pooled)
        shift = slope * (extra / pixels - g_bias / self.count)
        g_u = torch.empty_like(self.u)
        _kernels().gradient_scale(
            _pixels(masked),
            _pixels(self.u),
            self.mean.numpy(),
            scale.contiguous().numpy(),
            shift.numpy(),
            (-slope * self.inverse * g_weight / self.count).numpy(),
            _pixels(g_u),
        )
        return g_u, g_weight, g_bias


def _normalise(u: Tensor, bn: nn.BatchNorm2d) -> _Normalised:
    """One pass over u: its statistics, which also move BN's running ones."""
    pooled = torch.empty(u.shape[:2])
    mean, var = torch.empty(2, u.shape[1])
    _kernels().moments(_pixels(u), pooled.numpy(), mean.numpy(), var.numpy())
    count = u.numel() // u.shape[1]
    with torch.no_grad():
        if bn.running_mean is not None and bn.running_var is not None:
            momentum = bn.momentum or 0.0
            bn.running_mean.lerp_(mean, momentum)
            bn.running_var.lerp_(var * (count / max(count - 1, 1)), momentum)
        inverse = (var + bn.eps).rsqrt()
        return _Normalised(u.detach(), pooled, mean, inverse, bn.weight.detach(), bn.bias.detach())


class _NormAdd(torch.autograd.Function):
    """[relu]([x +] BN(u))."""

    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        x: Tensor | None,
        _w: Tensor,
        _b: Tensor,
        bn: nn.BatchNorm2d,
        relu: bool,
    ) -> Tensor:
        ctx.norm, ctx.relu, ctx.has_x = _normalise(u, bn), relu, x is not None
        y: Tensor = ctx.norm.add(x, None, relu=relu)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        masked, total, product = ctx.norm.gradient_sums(g, y, relu=ctx.relu)
        g_u, g_weight, g_bias = ctx.norm.gradients(masked, total, product)
        return g_u, masked if ctx.has_x else None, g_weight, g_bias, None, None


@dataclass
class _Branch:
    """What the two halves of a recalibrated block tell each other."""

    norm: _Normalised = field(init=False)
    sums: tuple[Tensor, Tensor, Tensor] = field(init=False)
    h: Tensor = field(init=False)


class _PoolNorm(torch.autograd.Function):
    """GAP(BN(u)), (B, C); its backward also takes what `_Recalibrate` found for u."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, _w: Tensor, _b: Tensor, bn: nn.BatchNorm2d, branch: _Branch
    ) -> Tensor:
        branch.norm = _normalise(u, bn)
        ctx.branch = branch
        return branch.norm.pooled_output

    @staticmethod
    def backward(ctx: Any, g_pooled: Tensor) -> Any:
        branch = ctx.branch
        g_u, g_weight, g_bias = branch.norm.gradients(*branch.sums, branch.h, g_pooled)
        return g_u, g_weight, g_bias, None, None


class _Recalibrate(torch.autograd.Function):
    """[relu]([x +] h·BN(u)), as a function of x and h; u's share is left to `_PoolNorm`.

    h comes from the pooled vector, so autograd calls this backward before that one.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, x: Tensor | None, branch: _Branch, relu: bool) -> Tensor:
        branch.h = h.detach()
        ctx.branch, ctx.relu, ctx.has_x = branch, relu, x is not None
        y = branch.norm.add(x, branch.h, relu=relu)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        norm = ctx.branch.norm
        masked, total, product = ctx.branch.sums = norm.gradient_sums(g, y, relu=ctx.relu)
        g_h = norm.weight * norm.inverse * product + norm.bias * total
        return g_h, masked if ctx.has_x else None, None, None


def norm_add(u: Tensor, bn: nn.BatchNorm2d, x: Tensor | None, *, relu: bool) -> Tensor:
    """[relu]([x +] BN(u)), (B, C, H, W)."""
    y: Tensor = _NormAdd.apply(u, x, bn.weight, bn.bias, bn, relu)
    return y


def run(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Layers one after the other, each BN together with the ReLU after it."""
    left = list(layers)
    while left:
        layer = left.pop(0)
        before_relu = bool(left) and isinstance(left[0], nn.ReLU) and applies(x)
        if isinstance(layer, nn.BatchNorm2d) and before_relu:
            left.pop(0)
            x = norm_add(x, layer, None, relu=True)
        else:
            x = layer(x)
    return x


class Recalibration:
    """One block's BN, attention, addition and ReLU.

    Args:
        u: output of the block's last convolution, (B, C, H, W).
        bn: the BN after it.

    Attributes:
        pooled: GAP(BN(u)), (B, C), for the attention unit.
    """

    def __init__(self, u: Tensor, bn: nn.BatchNorm2d) -> None:
        self._branch = _Branch()
        self.pooled: Tensor = _PoolNorm.apply(u, bn.weight, bn.bias, bn, self._branch)

    def add(self, h: Tensor, x: Tensor | None, *, relu: bool) -> Tensor:
        """[relu]([x +] h·BN(u)), with h (B, C) made from `pooled`."""
        y: Tensor = _Recalibrate.apply(h, x, self._branch, relu)
        return y
