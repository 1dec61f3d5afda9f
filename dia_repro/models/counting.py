"""Counts of a network that need no training: parameters and multiply-accumulates."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dia_repro.experiments.spec import ModelSpec
from dia_repro.models.build import build


def count_parameters(network: nn.Module) -> int:
    """Trainable weights, shared ones once: the paper's #P."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def build_meta(model: ModelSpec, classes: int) -> nn.Module:
    """A network without storage, for counting."""
    with torch.device("meta"):
        return build(model, classes)


@cache
def count_macs(model: ModelSpec, classes: int, image_size: int) -> int:
    """Multiply-accumulates of the forward pass of one image; a training step costs 3 times that.

    Counted from the operations that the network really calls (convolutions and matrix
    products), not from a formula.
    """
    network = build_meta(model, classes)
    image = torch.empty(2, 3, image_size, image_size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return int(counter.get_total_flops()) // (2 * len(image))
