"""Counts of a network that need no training: parameters and multiply-accumulates."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dia_repro.experiments.backbones import CIFARBackbone
from dia_repro.experiments.spec import ModelSpec
from dia_repro.models.build import from_spec

COUNTED = nn.Conv1d | nn.Conv2d | nn.Linear  # convolutions of one dimension: in attention units


@dataclass(frozen=True)
class Counts:
    """Costs of a network.

    Attributes:
        parameters: the paper's #P.
        macs: multiply-accumulates of the forward pass of one image, in convolutions and linear
            layers; a training step costs three times that.
        outputs: numbers that those layers give for one image: memory traffic is in proportion to
            them.
        calls: calls of such layers in a forward pass.
    """

    parameters: int
    macs: int
    outputs: int
    calls: int


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable weights, shared ones once: the paper's #P."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


@cache
def count(model: ModelSpec, classes: int, image_size: int) -> Counts:
    """Count a network by real forward passes, without weights or arithmetic.

    All blocks of a stage but its first are alike, so that a CIFAR network's counts grow by the same
    with every block a stage. They are those of one block a stage, and of what a second one adds.
    """
    backbone = model.backbone
    if not isinstance(backbone, CIFARBackbone) or backbone.blocks <= 2:
        return _count(model, classes, image_size)

    def with_blocks(number: int) -> Counts:
        shallow = model.model_copy(update={"backbone": backbone.with_blocks(number)})
        return _count(shallow, classes, image_size)

    of_one, of_two = np.array(astuple(with_blocks(1))), np.array(astuple(with_blocks(2)))
    return Counts(*(of_one + (backbone.blocks - 1) * (of_two - of_one)).tolist())


@cache
def _count(model: ModelSpec, classes: int, image_size: int) -> Counts:
    """Count a network layer by layer.

    The pass is that of a batch of no images, through weights that are all views of one number:
    every layer runs and gives its output's true shape, in a fifth of the time of meta tensors.
    """
    macs = outputs = calls = 0

    def on_call(layer: Any, _inputs: Any, output: Tensor) -> None:
        nonlocal macs, outputs, calls
        calls += 1
        outputs += output.shape[1:].numel()
        macs += output.shape[1:].numel() * layer.weight[0].numel()

    with torch.device("meta"):
        network = from_spec(model, classes).eval()
    parameters = count_parameters(network)
    network._apply(lambda t: torch.zeros((), dtype=t.dtype).expand(t.shape))  # type: ignore[no-untyped-call]
    for layer in network.modules():
        if isinstance(layer, COUNTED):
            layer.register_forward_hook(on_call)
    with torch.no_grad():
        network(torch.empty(0, 3, image_size, image_size))
    return Counts(parameters, macs, outputs, calls)
