"""Controls that multiply each residual branch by a number, in place of a unit.

The paper ascribes training without BN to the DIA unit (section "Removal of Batch Normalization").
Before the first step that unit is nearly a constant, σ(0)·σ(0) = 0.25. Whether this scale of the
residual branches is enough is what these controls ask. Scaling them down at initialisation is
studied by De, Smith: Batch Normalization Biases Residual Blocks Towards the Identity Function in
Deep Networks, NeurIPS 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dia_repro.models.attention.registry import register


@register("constant", shared=True)
class Constant(nn.Module):
    """The same channel weight for each image, channel and block; nothing is learned.

    Args:
        _channels: C, not used.
        value: the weight.
    """

    def __init__(self, _channels: int, value: float = 0.25) -> None:
        super().__init__()
        self.value = value

    def forward(self, pooled: Tensor, state: None = None) -> tuple[Tensor, None]:
        """(B, C) pooled features, of which only the shape counts → (B, C) weights, no state."""
        return torch.full_like(pooled, self.value), state

    def extra_repr(self) -> str:
        """Return the value, for printed networks."""
        return f"{self.value:g}"


@register("branch-scale")
class LearnedScale(nn.Module):
    """The same learned weight for each image and channel of a block.

    SkipInit (De, Smith, section 4) starts it at 0, so that each block starts as the identity. A
    start at 1/√L, with the L residual blocks of a network, keeps the variance of the activations
    bounded at any depth (section 3; Hanin, Rolnick: How to Start Training, NeurIPS 2018).

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
