"""One learned number for each residual branch, in place of a unit: a control.

De, Smith: Batch Normalization Biases Residual Blocks Towards the Identity Function in Deep
Networks, NeurIPS 2020, section 4: SkipInit starts the number at 0, so that each block starts as
the identity. A start at 1/√L, with the L residual blocks of a network, keeps the variance of the
activations bounded at any depth (section 3; Hanin, Rolnick: How to Start Training, NeurIPS 2018).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dia_repro.models.attention.registry import register


@register("branch-scale")
class LearnedScale(nn.Module):
    """The same learned weight for each image and channel of a block.

    Args:
        _channels: C, not used.
        start: the weight before training.
    """

    def __init__(self, _channels: int, start: float = 0.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), start))

    def forward(self, pooled: Tensor, state: None = None) -> tuple[Tensor, None]:
        """(B, C) pooled features, of which only the shape counts → (B, C) weights, no state."""
        return self.scale.expand(pooled.shape), state
