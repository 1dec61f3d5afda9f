"""Several processes that train one network, each on its part of every batch.

They make the steps that one process would make on whole batches, but for rounding: BN takes its
statistics over all parts, gradients are those of the whole batch's mean loss, and every process
counts the whole batch, so that all of them see a loss diverge, or an epoch end, at the same step.

Processes find each other as under `torchrun`: by RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from dia_repro.errors import UsageError
from dia_repro.experiments.attention import AttentionSpec
from dia_repro.experiments.own_options import OwnOptions
from dia_repro.experiments.spec import RecipeSpec, Spec
from dia_repro.models import from_spec
from dia_repro.models.network import StagedNetwork
from dia_repro.training.numerics import use_device
from dia_repro.training.step import TrainingStep

# How long a process waits for another; a checkpoint takes seconds.
PATIENCE = timedelta(minutes=10)
# Option of `DistributedDataParallel` to send buffers at each step. torch 2.14 warns of the older
# name, and 2.11 has no other.
_NAMES = signature(DistributedDataParallel).parameters
_SYNC = "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers"
NO_BUFFERS: dict[str, Any] = {_SYNC: False}


@dataclass(frozen=True)
class Group:
    """The processes of one run, as one of them sees them.

    Attributes:
        rank: number of this process, from 0; only the first keeps checkpoints and metrics.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def part(self) -> slice:
        """This process's images of a batch."""
        return slice(self.rank, None, self.size)

    def from_first(self, value: Any) -> Any:
        """Return, in all processes, the value that the first one gives."""
        if self.size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values)
        return values[0]


ALONE = Group()


class UnsharedRunError(UsageError):
    """The run cannot be trained by several processes."""


def check_group(spec: Spec, group: Group) -> None:
    """Refuse what several processes would not train as one does.

    Raises:
        UnsharedRunError: the run records gradients, for Figure 6; or an own attention has state
            that depends on the images of the whole batch, and is no plain BN's.
    """
    if group.size == 1:
        return
    if not spec.model.skip:
        raise UnsharedRunError(
            "a network without skip connections has its gradients recorded by one process: "
            "train it on one GPU"
        )
    attention = spec.model.attention
    if not isinstance(attention, OwnOptions):
        return
    for module in from_spec(spec.model, spec.data.classes).modules():
        if module._buffers and not _is_plain_bn(module):
            raise UnsharedRunError(
                f"attention {attention.kind!r} has buffers in {type(module).__name__}, and each "
                "process would have others: train it on one GPU, or use BatchNorm1d or BatchNorm2d"
            )


def _is_plain_bn(module: nn.Module) -> bool:
    """Return whether it is a BN with weights, running statistics, and a constant momentum."""
    return (
        isinstance(module, _BatchNorm)
        and type(module) in _SHARED
        and module.affine
        and module.track_running_stats
        and module.momentum is not None
    )


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """Meet the other processes that the environment names, and part from them at the end.

    Args:
        device: device of this process; on GPUs NCCL exchanges their tensors, Gloo the rest.

    Raises:
        RuntimeError: another process does not come, or is lost later.
    """
    # torch says it of convolutions' weights on a CPU, whose gradients have the images' layout.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    backend = "gloo"
    if device.type == "cuda":
        backend = "cpu:gloo,cuda:nccl"
        use_device(device)
    distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        yield Group(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


class SharedStep(TrainingStep):
    """A step on one part of a batch, which updates the weights as the whole batch would.

    Operations are those of the plain modules: the hand-written passes know no other process, and
    ImageNet's networks are limited by arithmetic, not by launches.
    """

    reduction = "sum"

    def __init__(
        self,
        model: StagedNetwork,
        recipe: RecipeSpec,
        precision: str,
        device: torch.device,
        group: Group,
        attention: AttentionSpec,
    ) -> None:
        share_statistics(model)
        # Gradients become the mean over processes, by the factor in `train_eagerly`. Statistics
        # are equal in all processes, so that no buffers have to be sent.
        devices = [device] if device.type == "cuda" else None
        # An own attention may have parameters that it does not use.
        own = isinstance(attention, OwnOptions)
        shared = DistributedDataParallel(model, devices, find_unused_parameters=own, **NO_BUFFERS)
        self.group = group
        super().__init__(shared, recipe, precision, device)
        model.use_fast(False)
        self.how = f"eager, in {group.size} processes"

    def train_eagerly(self, images: Tensor, labels: Tensor) -> None:
        """See `TrainingStep.train_eagerly`; images (B_part, 3, H, W), B_part may be 0."""
        loss, logits = self._loss(images, labels)
        sums = self._sums(loss, logits, labels)
        self._forget_gradients()
        (loss * self.group.size / sums[2]).backward()
        self._update()
        self.tally.count(*sums)

    @torch.no_grad()
    def evaluate(self, images: Tensor, labels: Tensor) -> None:
        """See `TrainingStep.evaluate`."""
        loss, logits = self._loss(images, labels)
        self.tally.count(*self._sums(loss, logits, labels))

    @staticmethod
    def _sums(loss: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Return loss, correct answers and images of the whole batch, (3,) float64."""
        loss = loss.detach().to(torch.float64)
        correct = (logits.detach().argmax(1) == labels).sum()
        sums = torch.stack((loss, correct, torch.full_like(loss, len(labels))))
        distributed.all_reduce(sums)
        return sums


def share_statistics(model: nn.Module) -> None:
    """Let each BN of a network take its statistics over the parts of all processes."""
    for module in model.modules():
        if type(module) in _SHARED:
            module.__class__ = _SHARED[type(module)]  # keeps its weights, statistics and hooks


class SharedBatchNorm(nn.BatchNorm2d):
    """BN over a batch of which this process has a part.

    torch's own `SyncBatchNorm` computes on GPUs only, waits for the GPU in each layer to leave out
    empty parts, and insists on a counter of batches that these networks do not have.
    """

    def forward(self, u: Tensor) -> Tensor:
        """Normalise (B_part, C, H, W)."""
        if not self.training:
            return super().forward(u)
        y: Tensor = _Normalise.apply(u, self.weight, self.bias, self)
        return y


class SharedBatchNorm1d(nn.BatchNorm1d):
    """The same for pooled features, which an own attention may normalise."""

    def forward(self, u: Tensor) -> Tensor:
        """Normalise (B_part, C) or (B_part, C, L)."""
        if not self.training:
            return super().forward(u)
        as_images = u[..., None, None] if u.dim() == 2 else u[..., None]
        y: Tensor = _Normalise.apply(as_images, self.weight, self.bias, self)
        return y.reshape(u.shape)


_SHARED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm2d: SharedBatchNorm,
    nn.BatchNorm1d: SharedBatchNorm1d,
}


class _Normalise(torch.autograd.Function):
    """γ·(u - μ)·r + δ, with μ and r = 1/√(var + ε) over all parts.

    On a GPU by torch's own kernels for BN over several processes, each of which reads every
    tensor once; the same operations are written out for a CPU, where torch has none.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, weight: Tensor, bias: Tensor, bn: _BatchNorm) -> Tensor:
        u = u.contiguous(memory_format=_layout(u))
        kernels = torch if u.is_cuda else _OnCPU
        count, mean, variance = _moments(u, bn.eps, kernels)
        if bn.running_mean is not None and bn.running_var is not None and bn.momentum is not None:
            bn.running_mean.lerp_(mean, bn.momentum)
            # The running variance is that of a sample.
            sample = variance * (count / (count - 1)).to(variance.dtype)
            bn.running_var.lerp_(sample, bn.momentum)
        if bn.num_batches_tracked is not None:
            bn.num_batches_tracked.add_(1)
        inverse = (variance + bn.eps).rsqrt()
        ctx.save_for_backward(u, weight, mean, inverse, count)
        if not len(u):
            return torch.empty_like(u)
        y: Tensor = kernels.batch_norm_elemt(u, weight, bias, mean, inverse, bn.eps)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        u, weight, mean, inverse, count = ctx.saved_tensors
        g = g.contiguous(memory_format=_layout(u))  # the kernels want one layout for both
        kernels = torch if u.is_cuda else _OnCPU
        if len(u):
            # Of this part for γ and δ, whose gradients DDP averages; of the whole batch for u.
            *sums, g_weight, g_bias = kernels.batch_norm_backward_reduce(
                g, u, mean, inverse, weight, True, True, True
            )
        else:
            sums = [torch.zeros_like(mean)] * 2
            g_weight, g_bias = torch.zeros_like(weight), torch.zeros_like(weight)
        over_all = torch.stack(sums).double()
        distributed.all_reduce(over_all)
        of_g, with_u = over_all.to(mean.dtype)
        if not len(u):
            return g, g_weight, g_bias, None
        g_u = kernels.batch_norm_backward_elemt(
            g, u, mean, inverse, weight, of_g, with_u, count.to(torch.int32)
        )
        return g_u, g_weight, g_bias, None


class _OnCPU:
    """torch's operations of the same names, which only GPUs have, on tensors (B, C, H, W)."""

    @staticmethod
    def batch_norm_stats(u: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """Return mean and 1/√(var + ε) of each channel, (C,)."""
        variance, mean = torch.var_mean(_wide(u), (0, 2, 3), correction=0)
        return mean, (variance + eps).rsqrt()

    @staticmethod
    def batch_norm_elemt(
        u: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, inverse: Tensor, _eps: float
    ) -> Tensor:
        """Return γ·(u - μ)·r + δ."""
        normal = (_wide(u) - _across(mean)) * _across(inverse)
        return torch.addcmul(_across(bias), normal, _across(weight)).to(u.dtype)

    @staticmethod
    def batch_norm_backward_reduce(
        g: Tensor, u: Tensor, mean: Tensor, inverse: Tensor, _weight: Tensor, *_wanted: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return Σg, Σg·(u - μ), and the gradients of γ and δ, (C,) each."""
        g = _wide(g)
        of_g, with_u = g.sum((0, 2, 3)), (g * (_wide(u) - _across(mean))).sum((0, 2, 3))
        return of_g, with_u, with_u * inverse, of_g

    @staticmethod
    def batch_norm_backward_elemt(
        g: Tensor,
        u: Tensor,
        mean: Tensor,
        inverse: Tensor,
        weight: Tensor,
        of_g: Tensor,
        with_u: Tensor,
        count: Tensor,
    ) -> Tensor:
        """Return the gradient of u, from the sums over all parts and their number of elements."""
        centred = (_wide(u) - _across(mean)) * _across(with_u / count * inverse.square())
        g_u = (_wide(g) - _across(of_g / count) - centred) * _across(weight * inverse)
        return g_u.to(u.dtype)


def _moments(u: Tensor, eps: float, kernels: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return a channel's elements, (1,) float64, its means and variances, over all parts."""
    channels = u.shape[1]
    count = torch.full((1,), u.numel() // channels, dtype=torch.float64, device=u.device)
    rows = torch.zeros(2, channels, dtype=torch.float64, device=u.device)
    dtype = torch.promote_types(u.dtype, torch.float32)
    if len(u):
        mean, inverse = kernels.batch_norm_stats(u, eps)
        dtype, wide = mean.dtype, mean.double()
        # In double: a square of the mean is about to be subtracted again.
        squares = inverse.double().square().reciprocal() - eps + wide.square()
        rows = torch.stack((wide, squares)) * count
    sums = torch.cat((rows.flatten(), count))
    distributed.all_reduce(sums)
    count = sums[-1:]
    first, second = (sums[:-1] / count).view(2, channels)
    return count, first.to(dtype), (second - first.square()).clamp_min(0).to(dtype)


def _layout(u: Tensor) -> torch.memory_format:
    """Return the nearer of the two layouts that the kernels know."""
    channels_last = u.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format


def _wide(x: Tensor) -> Tensor:
    """Return a tensor in float32, or in float64 if it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _across(channels: Tensor) -> Tensor:
    return channels[None, :, None, None]
