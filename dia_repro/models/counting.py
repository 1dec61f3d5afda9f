"""Counts of a network that need no training: parameters and multiply-accumulates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from dia_repro.experiments.spec import ModelSpec
from dia_repro.models.build import build


@dataclass(frozen=True)
class Counts:
    """What a network costs.

    Attributes:
        parameters: the paper's #P.
        macs: multiply-accumulates of the forward pass of one image, in convolutions and linear
            layers; a training step costs three times that.
    """

    parameters: int
    macs: int


def count_parameters(network: nn.Module) -> int:
    """Trainable weights, shared ones once: the paper's #P."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


@cache
def count(model: ModelSpec, classes: int, image_size: int) -> Counts:
    """Count a network on meta tensors: its real forward pass, without weights or arithmetic."""
    macs = 0

    def on_call(layer: nn.Module, _inputs: Any, output: Tensor) -> None:
        nonlocal macs
        if isinstance(layer, nn.Conv2d):
            macs += output.numel() * layer.weight[0].numel()
        elif isinstance(layer, nn.Linear):
            macs += output.numel() * layer.in_features

    with torch.device("meta"), torch.no_grad():
        network = build(model, classes)
        for layer in network.modules():
            layer.register_forward_hook(on_call)
        network.eval()(torch.empty(1, 3, image_size, image_size))
    return Counts(count_parameters(network), macs)
