"""Several processes that train one network, each on its part of every batch.

They make the steps that one process would make on whole batches, but for rounding: BN takes its
statistics over all parts, gradients are those of the whole batch's mean loss, and every process
counts the whole batch, so that all of them see a loss explode, or an epoch end, at the same step.

Processes find each other as those do that `torchrun` starts: by RANK, WORLD_SIZE, LOCAL_RANK,
MASTER_ADDR and MASTER_PORT.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from dia_repro.errors import UsageError
from dia_repro.experiments.spec import RecipeSpec, Spec
from dia_repro.models.network import StagedNetwork
from dia_repro.training.numerics import numerics
from dia_repro.training.step import TrainingStep

# A process that waits so long for another gives up; a checkpoint takes seconds.
PATIENCE = timedelta(minutes=10)


@dataclass(frozen=True)
class Group:
    """The processes of one run, as one of them sees them.

    Attributes:
        rank: which one this is, from 0; the first alone keeps checkpoints and figures.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def part(self) -> slice:
        """Which images of a batch are this process's."""
        return slice(self.rank, None, self.size)

    def from_first(self, value: Any) -> Any:
        """What the first process gives, in all of them."""
        if self.size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values)
        return values[0]


ALONE = Group()


class UnsharedRunError(UsageError):
    """The run cannot be trained by several processes."""


def check_group(spec: Spec, group: Group) -> None:
    """Refuse what would come out otherwise than in one process.

    Raises:
        UnsharedRunError: gradients are recorded of the run, for Figure 6.
    """
    if group.size > 1 and not spec.model.skip:
        raise UnsharedRunError(
            "a network without skip connections has its gradients recorded by one process: "
            "train it on one GPU"
        )


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """Meet the other processes that the environment names, and part from them at the end.

    Args:
        device: of this process; on GPUs NCCL carries what is on them, Gloo the rest.

    Raises:
        RuntimeError: of torch's, where somebody does not come or is lost later.
    """
    # Of convolutions' weights on a CPU, whose gradients have the images' layout; said at every run.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    backend = "gloo"
    if device.type == "cuda":
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(device)
    distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        yield Group(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


class SharedStep(TrainingStep):
    """A step on one part of a batch, which moves the weights as the whole batch would.

    Operations are the plain modules', one at a time: the hand-written passes know no other
    process, and of ImageNet's networks arithmetic takes the time, not launches.
    """

    def __init__(
        self,
        model: StagedNetwork,
        recipe: RecipeSpec,
        precision: str,
        device: torch.device,
        group: Group,
    ) -> None:
        share_statistics(model)
        # Gradients become the mean of all processes', whence the factor in `train_eagerly`.
        shared = DistributedDataParallel(model, [device] if device.type == "cuda" else None)
        self.group = group
        super().__init__(shared, recipe, precision, device)
        model.use_fast(False)
        self.how = f"eager, in {group.size} processes"

    def train_eagerly(self, images: Tensor, labels: Tensor) -> None:
        """As `TrainingStep.train_eagerly`; images (B_part, 3, H, W), of which there may be none."""
        with numerics(self.precision, self.device):
            logits = self.model(images)
            loss = functional.cross_entropy(logits, labels, reduction="sum")
        sums = self._sums(loss, logits, labels)
        self._forget_gradients()
        (loss * self.group.size / sums[2]).backward()
        self._move()
        self.tally.count(*sums)

    @torch.no_grad()
    def evaluate(self, images: Tensor, labels: Tensor) -> None:
        """As `TrainingStep.evaluate`."""
        with numerics(self.precision, self.device):
            logits = self.model(images)
            loss = functional.cross_entropy(logits, labels, reduction="sum")
        self.tally.count(*self._sums(loss, logits, labels))

    @staticmethod
    def _sums(loss: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Of the whole batch: loss, correct answers, images, (3,) float64."""
        loss = loss.detach().to(torch.float64)
        correct = (logits.detach().argmax(1) == labels).sum()
        sums = torch.stack((loss, correct, torch.full_like(loss, len(labels))))
        distributed.all_reduce(sums)
        return sums


def share_statistics(model: nn.Module) -> None:
    """Let each BN of a network take its statistics over the parts of all processes."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, SharedBatchNorm(child))


class SharedBatchNorm(nn.BatchNorm2d):
    """BN over a batch of which this process has a part; its weights are those of another BN.

    torch's own `SyncBatchNorm` computes on GPUs only, and insists on a counter of batches that
    these networks leave out.
    """

    def __init__(self, bn: nn.BatchNorm2d) -> None:
        super().__init__(bn.num_features, bn.eps, bn.momentum, device="meta")
        self._parameters, self._buffers = bn._parameters, bn._buffers
        self.training = bn.training

    def forward(self, u: Tensor) -> Tensor:
        """(B_part, C, H, W) → the same, normalised."""
        if not self.training:
            return super().forward(u)
        y: Tensor = _Normalise.apply(u, self.weight, self.bias, self)
        return y


class _Normalise(torch.autograd.Function):
    """γ·(u - μ)·r + δ, with μ and r = 1/√(var + ε) over all parts."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, weight: Tensor, bias: Tensor, bn: SharedBatchNorm) -> Tensor:
        wide = _wide(u)
        count, mean, variance = _moments(wide)
        inverse = (variance + bn.eps).rsqrt()
        if bn.running_mean is not None and bn.running_var is not None and bn.momentum is not None:
            bn.running_mean.lerp_(mean, bn.momentum)
            # The running variance is that of a sample.
            bn.running_var.lerp_(variance * (count / (count - 1)), bn.momentum)
        normal = (wide - _across(mean)) * _across(inverse)
        ctx.save_for_backward(u, weight, mean, inverse)
        ctx.count = count
        return torch.addcmul(_across(bias), normal, _across(weight)).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        u, weight, mean, inverse = ctx.saved_tensors
        g, wide = _wide(g), _wide(u)
        normal = (wide - _across(mean)) * _across(inverse)
        # Of this part for γ and δ, whose gradients are added up with all others; of the whole
        # batch for u.
        own = torch.stack((g.sum((0, 2, 3)), (g * normal).sum((0, 2, 3))))
        of_all = own.to(torch.float64, copy=True)
        distributed.all_reduce(of_all)
        along, with_normal = (of_all / ctx.count).to(g.dtype)
        g_u = (g - _across(along) - normal * _across(with_normal)) * _across(weight * inverse)
        return g_u.to(u.dtype), own[1], own[0], None


def _moments(u: Tensor) -> tuple[float | Tensor, Tensor, Tensor]:
    """Elements for each channel, their means and variances, over all parts of u (B, C, H, W)."""
    count = u.numel() // u.shape[1]
    mean = u.sum((0, 2, 3)) / max(count, 1)
    squares = (u - _across(mean)).square().sum((0, 2, 3))
    # In double: the second row is about to have a square of the mean taken away again.
    rows = torch.stack((mean * count, squares + count * mean.square())).double()
    sums = torch.cat((rows.flatten(), rows.new_tensor([count])))
    distributed.all_reduce(sums)
    channels, count_of_all = len(mean), sums[-1]
    first, second = (sums[:-1] / count_of_all).view(2, channels)
    return count_of_all, first.to(u.dtype), (second - first.square()).clamp_min(0).to(u.dtype)


def _wide(x: Tensor) -> Tensor:
    """In float32, unless it is in float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _across(channels: Tensor) -> Tensor:
    return channels[None, :, None, None]
