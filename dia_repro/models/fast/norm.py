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
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor, nn

aten = torch.ops.aten


def applies(x: Tensor) -> bool:
    """Return whether the compiled passes of a CPU are written for such a tensor."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _at(*tensors: Tensor) -> tuple[int, ...]:
    """Return the addresses of tensors, which the caller keeps alive."""
    return tuple(map(Tensor.data_ptr, tensors))


class _Normalised:
    """BN's view of u in one batch, by the compiled passes.

    In training by the batch's statistics, which also move BN's running ones; otherwise by those,
    and there is no way back.

    Args:
        u: (B, C, H, W), as `applies` wants it.
        bn: with γ and δ.
    """

    def __init__(self, u: Tensor, bn: nn.BatchNorm2d) -> None:
        from dia_repro.models.fast import kernels  # brings numba

        images, channels, height, width = u.shape
        running = cast("tuple[Tensor, Tensor]", (bn.running_mean, bn.running_var))
        self.u, self.training = u.detach(), bn.training
        self.h: Tensor | None = None
        self.kernels: Any = kernels
        self.shape = (images, height * width, channels)
        weight, bias = bn.weight.detach(), bn.bias.detach()
        if bn.training:
            self.pooled = u.new_empty(images, channels)
            self.bn = torch.empty_like(bias), torch.empty_like(bias), weight, bias
            places = _at(u, *running, self.pooled)
            self.kernels.moments(self.shape, places, _at(*self.bn), bn.momentum, bn.eps)
        else:
            self.bn = running[0], (running[1] + bn.eps).rsqrt(), weight, bias

    def pooled_output(self) -> Tensor:
        """GAP(BN(u)), (B, C)."""
        mean, inverse, weight, bias = self.bn
        pooled = self.pooled if self.training else self.u.mean((2, 3))
        return torch.addcmul(bias, pooled - mean, weight * inverse)

    def add(self, h: Tensor | None, x: Tensor | None, *, relu: bool) -> Tensor:
        """[relu]([x +] [h·] BN(u)), (B, C, H, W)."""
        self.h = None if h is None else h.detach().contiguous()
        y = torch.empty_like(self.u)
        # Any address will do for what is not read.
        scale = self.u if self.h is None else self.h
        shortcut = self.u if x is None else _channels_last(x)
        places, which = _at(self.u, scale, shortcut, y), (h is not None, x is not None, relu)
        self.kernels.add(self.shape, places, _at(*self.bn), *which)
        return y

    def add_backward(self, g: Tensor, y: Tensor, *, relu: bool) -> tuple[Tensor, Tensor]:
        """Gradients of x and h; what u's needs of them is kept."""
        g = _channels_last(g)
        self.g_x = torch.empty_like(self.u) if relu else g
        self.sums = self.u.new_empty(2, *self.pooled.shape)
        g_h = torch.empty_like(self.pooled)
        places = _at(g, y, self.u, self.g_x, self.sums, g_h)
        self.kernels.add_backward(self.shape, places, _at(*self.bn), relu)
        return self.g_x, g_h

    def backward(self, g_pooled: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of u, γ and δ, from `add_backward`'s and, with h, from that of GAP(BN(u))."""
        pooled = self.pooled
        h, g_pooled = (pooled if t is None else t.contiguous() for t in (self.h, g_pooled))
        mean = self.bn[0]
        results = torch.empty_like(self.u), torch.empty_like(mean), torch.empty_like(mean)
        given = _at(self.g_x, self.u, self.sums, pooled, h, g_pooled)
        scaled = self.h is not None
        self.kernels.norm_backward(self.shape, given, _at(*self.bn), scaled, _at(*results))
        del self.g_x  # autograd, now its only owner, adds the branch's gradient to it in place
        return results


class _NormalisedByTorch:
    """`_Normalised` with torch's operations, on any device, where there is an h."""

    def __init__(self, u: Tensor, bn: nn.BatchNorm2d) -> None:
        self.u, self.bn = u.detach(), bn
        self.a, self.mean, self.inverse = aten.native_batch_norm(
            u, bn.weight, bn.bias, bn.running_mean, bn.running_var, bn.training, bn.momentum, bn.eps
        )

    def pooled_output(self) -> Tensor:
        """GAP(BN(u)), (B, C)."""
        pooled: Tensor = self.a.mean((2, 3))
        return pooled

    def add(self, h: Tensor, x: Tensor | None, *, relu: bool) -> Tensor:
        """[relu]([x +] h·BN(u)), (B, C, H, W)."""
        self.h = h.detach()[:, :, None, None]
        y = self.a * self.h if x is None else torch.addcmul(x, self.a, self.h)
        return y.relu_() if relu else y

    def add_backward(self, g: Tensor, y: Tensor, *, relu: bool) -> tuple[Tensor, Tensor]:
        """Gradients of x and h; what u's needs of them is kept."""
        self.g_x = aten.threshold_backward(g, y, 0) if relu else g
        return self.g_x, (self.g_x * self.a).sum((2, 3))

    def backward(self, g_pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of u, γ and δ, from that of GAP(BN(u)) and from `add_backward`'s."""
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
        y = ctx.norm.add(None, x, relu=relu)
        ctx.save_for_backward(y)
        return y  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        g_x, _ = ctx.norm.add_backward(g, y, relu=ctx.relu)
        g_u, *of_bn = ctx.norm.backward(None)
        return g_u, g_x if ctx.has_x else None, *of_bn, None, None


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
        return *ctx.norm.backward(g_pooled), None, None


class _Recalibrate(torch.autograd.Function):
    """[relu]([x +] h·BN(u)), as a function of x and h; u's share is left to `_Pool`.

    It takes the pooled vector, too, from which h need not come: so autograd calls that backward,
    and calls it after this one.
    """

    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        x: Tensor | None,
        _pooled: Tensor,
        norm: _Normalised | _NormalisedByTorch,
        relu: bool,
    ) -> Tensor:
        ctx.norm, ctx.relu, ctx.has_x = norm, relu, x is not None
        y = norm.add(h, x, relu=relu)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        g_x, g_h = ctx.norm.add_backward(g, y, relu=ctx.relu)
        return g_h, g_x if ctx.has_x else None, None, None, None


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
        """[relu]([x +] h·BN(u)), with h (B, C), made from `pooled` or not."""
        y: Tensor = _Recalibrate.apply(h, x, self.pooled, self.norm, relu)
        return y


def norm_add(u: Tensor, bn: nn.BatchNorm2d, x: Tensor | None, *, relu: bool) -> Tensor:
    """[relu]([x +] BN(u)), (B, C, H, W)."""
    if applies(u):
        y: Tensor = _NormAdd.apply(u, x, bn.weight, bn.bias, bn, relu)
    else:
        y = bn(u) if x is None else bn(u) + x
        y = y.relu() if relu else y
    return y


class _Narrow(torch.autograd.Function):
    """A 1×1 convolution to few channels, without a bias.

    oneDNN is slow with the gradient of its weights. That of the transposed convolution, in which
    images and gradients change places, has the same sums.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.conv2d(x, weight)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        g, back = _channels_last(g), weight.transpose(0, 1).contiguous()
        wanted = (ctx.needs_input_grad[0], False, False)
        g_x, _, _ = aten.convolution_backward(g, x, weight, *_PLAIN, wanted)
        _, g_back, _ = aten.convolution_backward(x, g, back, *_PLAIN, (False, True, False))
        return g_x, g_back.transpose(0, 1)


# Arguments of a convolution's backward: no bias, stride 1, no padding, not dilated, one group.
_PLAIN = (None, (1, 1), (0, 0), (1, 1), False, (0, 0), 1)
NARROW, NARROW_PIXELS = 16, 32 * 32


def _is_narrow(layer: nn.Module, x: Tensor) -> TypeGuard[nn.Conv2d]:
    if not (isinstance(layer, nn.Conv2d) and applies(x)):
        return False
    plain = layer.kernel_size == layer.stride == (1, 1) and layer.groups == 1 and layer.bias is None
    narrow = layer.out_channels <= NARROW < layer.in_channels
    return plain and narrow and x.shape[2] * x.shape[3] >= NARROW_PIXELS


def run(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Layers one after the other, each BN together with the ReLU after it."""
    left = list(layers)
    while left:
        layer = left.pop(0)
        if isinstance(layer, nn.BatchNorm2d):
            relu = bool(left) and isinstance(left[0], nn.ReLU)
            x = norm_add(x, layer, None, relu=relu)
            del left[: int(relu)]
        elif _is_narrow(layer, x):
            x = _Narrow.apply(x, layer.weight)
        else:
            x = layer(x)
    return x
