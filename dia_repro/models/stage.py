"""A stage: the blocks of one spatial size, and the attention unit that they share (Figure 1)."""

from __future__ import annotations

from typing import Any, Protocol, cast

from torch import Tensor, nn


class Block(Protocol):
    """What a stage needs of a residual block."""

    attention: nn.Module | None

    def enter(self, x: Tensor) -> Tensor:
        """What the residual branch and the shortcut both see."""

    def residual(self, x: Tensor) -> Tensor:
        """(a) of Table 2: a_t = f(x_t), (B, C, H, W)."""

    def merge(self, x: Tensor, a: Tensor) -> Tensor:
        """(c) of Table 2: x_{t+1} from x_t and the recalibrated branch, (B, C, H, W)."""


class Stage(nn.Module):
    """Runs its blocks in order and carries the shared unit's state from block to block.

    The state lives in `forward` alone: it starts empty at each call, so nothing can leak from
    one batch, or one stage, to the next.

    Args:
        blocks: T residual blocks with the same output shape.
        unit: the unit that they share, or None (a block may have its own).
    """

    def __init__(self, blocks: list[nn.Module], unit: nn.Module | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.unit = unit

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H_in, W_in) → (B, C, H, W)."""
        state: Any = None
        for block in cast("list[Block]", self.blocks):
            x = block.enter(x)
            a = block.residual(x)
            attention = block.attention if self.unit is None else self.unit
            if attention is not None:
                h, state = attention(a.mean((2, 3)), state)
                a = a * h[:, :, None, None]
            x = block.merge(x, a)
        return x
