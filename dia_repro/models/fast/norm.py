"""BN, attention, addition and ReLU together, with a backward written by hand.

What a block does after its last convolution is affine in that convolution's output u, for each
image and channel: BN(u) = γ·r·(u - μ) + δ with r = 1/√(var + ε), a = h·BN(u), and GAP(BN(u)) is
affine in the mean of u. So on a CPU one pass gives BN's statistics and the pooled vector together,
a second one x + a and its ReLU, and nothing in between is ever written. Backward likewise: the
gradients of h, γ and δ need two sums, Σg and Σg·(u - μ), and the gradient of u is affine in g and
u. Elsewhere the same steps are taken with torch's own operations, of which they need fewer than
autograd does.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

aten = torch.ops.aten


def applies(x: Tensor) -> bool:
    """Whether the compiled passes of a CPU are written for such a tensor."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def _kernels() -> ModuleType:
    """Loaded when first needed: it brings numba."""
    from dia_repro.models.fast import kernels

    return kernels


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _at(*tensors: Tensor) -> tuple[int, ...]:
    """Where the kernels find tensors, which the caller keeps alive."""
    return tuple(t.data_ptr() for t in tensors)


class _Normalised:
    """BN's view of u in one batch.

    In training by the batch's statistics, which also move BN's running ones; otherwise by those,
    and there is no way back.

    Args:
        u: (B, C, H, W), as `applies` wants it.
        bn: with γ and δ.

    Attributes:
        pooled: means of u over pixels, (B, C); in training only.
        mean, inverse: μ and r, (C,).
    """

    def __init__(self, u: Tensor, bn: nn.BatchNorm2d) -> None:
        images, channels, height, width = u.shape
        running = cast("tuple[Tensor, Tensor]", (bn.running_mean, bn.running_var))
        self.u, self.weight, self.bias = u.detach(), bn.weight.detach(), bn.bias.detach()
        self.kernels, self.sizes = _kernels(), (images, height * width, channels)
        self.training = bn.training
        if bn.training:
            self.pooled = u.new_empty(images, channels)
            self.mean, self.inverse = torch.empty_like(self.bias), torch.empty_like(self.bias)
            self.kernels.moments(
                *self.sizes,
                *_at(u, *running),
                bn.momentum,
                bn.eps,
                *_at(self.pooled, self.mean, self.inverse),
            )
        else:
            self.mean, self.inverse = running[0], (running[1] + bn.eps).rsqrt()
        self.own = _at(self.mean, self.inverse, self.weight, self.bias)

    def pooled_output(self) -> Tensor:
        """GAP(BN(u)), (B, C)."""
        pooled = self.pooled if self.training else self.u.mean((2, 3))
        return torch.addcmul(self.bias, pooled - self.mean, self.weight * self.inverse)

    def add(self, x: Tensor | None, *, relu: bool) -> Tensor:
        """[relu]([x +] BN(u)), (B, C, H, W)."""
        y = torch.empty_like(self.u)
        shortcut = self.u if x is None else _channels_last(x)
        u_and_shortcut, add = _at(self.u, shortcut), x is not None
        self.kernels.normalise_add(
            *self.sizes, u_and_shortcut[0], *self.own, u_and_shortcut[1], add, relu, y.data_ptr()
        )
        return y

    def add_backward(
        self, g: Tensor, y: Tensor, *, relu: bool, keep: bool
    ) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
        """Gradients of x (if it is to be kept), u, γ and δ."""
        g = _channels_last(g)
        g_x = torch.empty_like(self.u) if keep and relu else g
        g_u = torch.empty_like(self.u)
        g_weight, g_bias = torch.empty_like(self.mean), torch.empty_like(self.mean)
        self.kernels.normalise_add_backward(
            *self.sizes,
            *_at(g, y, self.u),
            *self.own[:3],
            relu,
            keep and relu,
            *_at(g_x, g_u, g_weight, g_bias),
        )
        return g_x if keep else None, g_u, g_weight, g_bias

    def recalibrate(self, h: Tensor, x: Tensor | None, *, relu: bool) -> Tensor:
        """[relu]([x +] h·BN(u)), (B, C, H, W)."""
        self.h = h.detach().contiguous()
        y = torch.empty_like(self.u)
        shortcut = self.u if x is None else _channels_last(x)
        h_and_shortcut, add = _at(self.h, shortcut), x is not None
        self.kernels.recalibrate_add(
            *self.sizes, self.u.data_ptr(), *self.own, *h_and_shortcut, add, relu, y.data_ptr()
        )
        return y

    def recalibrate_backward(self, g: Tensor, y: Tensor, *, relu: bool) -> tuple[Tensor, Tensor]:
        """Gradients of x and h; what u's needs of them is kept."""
        g = _channels_last(g)
        self.g_x = torch.empty_like(self.u) if relu else g
        self.sums = self.u.new_empty(2, *self.pooled.shape)
        g_h = torch.empty_like(self.pooled)
        self.kernels.recalibrate_backward(
            *self.sizes, *_at(g, y, self.u), *self.own, relu, *_at(self.g_x, self.sums, g_h)
        )
        return self.g_x, g_h

    def pool_backward(self, g_pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of u, γ and δ, from that of GAP(BN(u)) and from `recalibrate_backward`'s."""
        g_pooled = g_pooled.contiguous()
        g_u = torch.empty_like(self.u)
        g_weight, g_bias = torch.empty_like(self.mean), torch.empty_like(self.mean)
        self.kernels.recalibrated_norm_backward(
            *self.sizes,
            *_at(self.g_x, self.u, self.pooled),
            *self.own[:3],
            *_at(self.h, g_pooled, self.sums, g_u, g_weight, g_bias),
        )
        del self.g_x  # nobody else's now, autograd adds the branch's gradient to it in place
        return g_u, g_weight, g_bias


class _NormalisedByTorch:
    """The recalibrating half of `_Normalised` with torch's operations, on any device."""

    def __init__(self, u: Tensor, bn: nn.BatchNorm2d) -> None:
        self.u, self.bn = u.detach(), bn
        self.a, self.mean, self.inverse = aten.native_batch_norm(
            u, bn.weight, bn.bias, bn.running_mean, bn.running_var, bn.training, bn.momentum, bn.eps
        )

    def pooled_output(self) -> Tensor:
        """GAP(BN(u)), (B, C)."""
        pooled: Tensor = self.a.mean((2, 3))
        return pooled

    def recalibrate(self, h: Tensor, x: Tensor | None, *, relu: bool) -> Tensor:
        """[relu]([x +] h·BN(u)), (B, C, H, W)."""
        self.h = h.detach()[:, :, None, None]
        y = self.a * self.h if x is None else torch.addcmul(x, self.a, self.h)
        return y.relu_() if relu else y

    def recalibrate_backward(self, g: Tensor, y: Tensor, *, relu: bool) -> tuple[Tensor, Tensor]:
        """Gradients of x and h; what u's needs of them is kept."""
        self.g_x = aten.threshold_backward(g, y, 0) if relu else g
        return self.g_x, (self.g_x * self.a).sum((2, 3))

    def pool_backward(self, g_pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of u, γ and δ, from that of GAP(BN(u)) and from `recalibrate_backward`'s."""
        pixels = self.u.shape[2] * self.u.shape[3]
        g_a = torch.addcmul((g_pooled / pixels)[:, :, None, None], self.g_x, self.h)
        bn = self.bn
        statistics = (bn.running_mean, bn.running_var, self.mean, self.inverse)
        g_u, g_weight, g_bias = aten.native_batch_norm_backward(
            g_a, self.u, bn.weight, *statistics, True, bn.eps, [True, True, True]
        )
        return g_u, g_weight, g_bias


class _NormAdd(torch.autograd.Function):
    """[relu]([x +] BN(u)), by the compiled passes."""

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
        ctx.norm, ctx.relu, ctx.has_x = _Normalised(u, bn), relu, x is not None
        y = ctx.norm.add(x, relu=relu)
        ctx.save_for_backward(y)
        return y  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        g_x, g_u, *of_bn = ctx.norm.add_backward(g, y, relu=ctx.relu, keep=ctx.has_x)
        return g_u, g_x, *of_bn, None, None


class _Pool(torch.autograd.Function):
    """GAP(BN(u)), (B, C); its backward also takes what `_Recalibrate` found for u."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, _w: Tensor, _b: Tensor, bn: nn.BatchNorm2d, branch: Recalibration
    ) -> Tensor:
        ctx.norm = branch.norm = (_Normalised if applies(u) else _NormalisedByTorch)(u, bn)
        return ctx.norm.pooled_output()  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, g_pooled: Tensor) -> Any:
        return *ctx.norm.pool_backward(g_pooled), None, None


class _Recalibrate(torch.autograd.Function):
    """[relu]([x +] h·BN(u)), as a function of x and h; u's share is left to `_Pool`.

    h comes from the pooled vector, so autograd calls this backward before that one.
    """

    @staticmethod
    def forward(
        ctx: Any, h: Tensor, x: Tensor | None, norm: _Normalised | _NormalisedByTorch, relu: bool
    ) -> Tensor:
        ctx.norm, ctx.relu, ctx.has_x = norm, relu, x is not None
        y = norm.recalibrate(h, x, relu=relu)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        g_x, g_h = ctx.norm.recalibrate_backward(g, y, relu=ctx.relu)
        return g_h, g_x if ctx.has_x else None, None, None


class Recalibration:
    """One block's BN, attention, addition and ReLU.

    Args:
        u: output of the block's last convolution, (B, C, H, W).
        bn: the BN after it.

    Attributes:
        pooled: GAP(BN(u)), (B, C), for the attention unit.
    """

    norm: _Normalised | _NormalisedByTorch

    def __init__(self, u: Tensor, bn: nn.BatchNorm2d) -> None:
        self.pooled: Tensor = _Pool.apply(u, bn.weight, bn.bias, bn, self)

    def add(self, h: Tensor, x: Tensor | None, *, relu: bool) -> Tensor:
        """[relu]([x +] h·BN(u)), with h (B, C) made from `pooled`."""
        y: Tensor = _Recalibrate.apply(h, x, self.norm, relu)
        return y


def norm_add(u: Tensor, bn: nn.BatchNorm2d, x: Tensor | None, *, relu: bool) -> Tensor:
    """[relu]([x +] BN(u)), (B, C, H, W)."""
    if applies(u):
        y: Tensor = _NormAdd.apply(u, x, bn.weight, bn.bias, bn, relu)
    else:
        y = bn(u) if x is None else bn(u) + x
        y = y.relu() if relu else y
    return y


def run(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Layers one after the other, each BN together with the ReLU after it."""
    left = list(layers)
    while left:
        layer = left.pop(0)
        if isinstance(layer, nn.BatchNorm2d):
            relu = bool(left) and isinstance(left[0], nn.ReLU)
            x = norm_add(x, layer, None, relu=relu)
            del left[: int(relu)]
        else:
            x = layer(x)
    return x
