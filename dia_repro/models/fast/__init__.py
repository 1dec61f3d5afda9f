"""Blocks by hand-written forward and backward passes: fewer operations, same results.

`dia_repro.models.stage` says when a block goes this way; the plain modules define what it computes.
"""

import torch
from torch import nn

from dia_repro.models.fast.norm import Recalibration, norm_add, run
from dia_repro.models.fast.segments import WalkedStage
from dia_repro.models.fast.unit import attend, walks

__all__ = ["Recalibration", "WalkedStage", "attend", "norm_add", "run", "suits", "walks"]


def suits(module: nn.Module) -> bool:
    """Return whether the hand-written passes can stand for a module's own now.

    They are for training and for evaluation without gradients, and know one type of number, where
    autocast mixes two.
    """
    known = module.training or not torch.is_grad_enabled()
    autocast = torch.is_autocast_enabled("cuda") or torch.is_autocast_enabled("cpu")
    return known and not autocast
