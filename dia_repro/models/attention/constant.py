"""A constant in the unit's place: a control, without weights, learning or state.

The paper ascribes training without BN to the DIA unit (section "Removal of Batch Normalization").
Before the first step that unit is nearly a constant, σ(0)·σ(0) = 0.25. Whether this scale of the
residual branches is enough is what this control asks; scaling them down at initialisation is
studied by De, Smith: Batch Normalization Biases Residual Blocks Towards the Identity Function in
Deep Networks, NeurIPS 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dia_repro.models.attention.registry import register


@register("constant", shared=True)
class Constant(nn.Module):
    """The same channel weight for each image, channel and block.

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
