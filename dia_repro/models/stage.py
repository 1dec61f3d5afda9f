"""A stage: the blocks of one spatial size, and the attention unit that they share (Figure 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from dia_repro.errors import UsageError
from dia_repro.models import fast
from dia_repro.models.blocks import ResidualBlock

BlockFunction = Callable[[ResidualBlock, Tensor, Any], tuple[Tensor, Any]]
Attend = Callable[[nn.Module, Tensor, Any], Any]
StageFunction = Callable[[Sequence[ResidualBlock], Tensor], Tensor]


def in_order(block: BlockFunction, blocks: Sequence[ResidualBlock], x: Tensor) -> Tensor:
    """Return the output of blocks that are run by a function one after the other."""
    state: Any = None
    for each in blocks:
        x, state = block(each, x, state)
    return x


class AttentionOutputError(UsageError, ValueError):
    """An attention unit gave something else than attention (B, C) and a state."""


def _attended(
    attend: Attend, attention: nn.Module, pooled: Tensor, state: Any
) -> tuple[Tensor, Any]:
    """Return what a unit gives for pooled features (B, C) and a state.

    Hand-written passes would read beyond a tensor that would only broadcast to (B, C), and numbers
    of another type as if they were of the features'. They need the features and the attention again
    in the backward pass, and a user's unit may have changed both by then: it has copies.

    Args:
        attend: calls the unit.

    Raises:
        AttentionOutputError: it is not attention (B, C) and a state.
    """
    # The package's own units change nothing in place.
    ours = type(attention).__module__.partition(".")[0] == __name__.partition(".")[0]
    answer = attend(attention, pooled if ours else pooled.clone(), state)
    if isinstance(answer, tuple) and len(answer) == 2:
        h, state = answer
        if isinstance(h, Tensor) and h.shape == pooled.shape:
            mixed = h.dtype != pooled.dtype and not torch.is_autocast_enabled(pooled.device.type)
            h = h.to(pooled.dtype) if mixed else h
            return h if ours else h.clone(), state
    first = answer[0] if isinstance(answer, tuple) and answer else answer
    shape = tuple(first.shape) if isinstance(first, Tensor) else type(first).__name__
    pair = "a pair that begins with " if isinstance(answer, tuple) else ""
    raise AttentionOutputError(
        f"{type(attention).__name__}.forward gave {pair}{shape}: it has to return attention of its "
        f"input's shape (B, C), here {tuple(pooled.shape)}, and a state (None will do)"
    )


class Stage(nn.Module):
    """Runs its blocks in order and carries the shared unit's state from block to block.

    The state lives in `forward` alone: it starts empty at each call, so nothing can leak from
    one batch, or one stage, to the next.

    Args:
        blocks: T residual blocks with the same output shape.
        unit: the unit that they share, or None (a block may have its own).

    Attributes:
        fast: whether `dia_repro.models.fast` replaces the plain modules.
        compiled: the blocks as compiled code, which has precedence; None without.
    """

    def __init__(self, blocks: list[ResidualBlock], unit: nn.Module | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.unit = unit
        self.fast = False
        self.compiled: StageFunction | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H_in, W_in) → (B, C, H, W)."""
        blocks = list(cast("Iterable[ResidualBlock]", self.blocks))
        if self.compiled is not None:
            return self.compiled(blocks, x)
        by_hand = self.fast and fast.suits(self)
        return in_order(self._fast_block if by_hand else self._block, blocks, x)

    def _attention(self, block: ResidualBlock) -> nn.Module | None:
        return block.attention if self.unit is None else self.unit

    def _block(self, block: ResidualBlock, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Table 2, line by line."""
        x = block.enter(x)
        a = block.residual(x)
        attention = self._attention(block)
        if attention is not None:
            pooled = a.mean((2, 3))
            h, state = _attended(nn.Module.__call__, attention, pooled, state)
            a = a * h[:, :, None, None]
        return block.merge(x, a), state

    def _fast_block(self, block: ResidualBlock, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return what `_block` returns but for rounding, in fewer operations."""
        x = x if block.entry is None else fast.run(block.entry, x)
        *layers, last = block.layers
        u = fast.run(layers, x)
        attention = self._attention(block)
        if not isinstance(last, nn.BatchNorm2d):
            a = last(u)
            if attention is not None:
                pooled = a.mean((2, 3))
                h, state = _attended(fast.attend, attention, pooled, state)
                a = a * h[:, :, None, None]
            return block.merge(x, a), state
        shortcut = block.shortcut
        carried = block.carried(x) if shortcut is None else fast.run(shortcut, x)
        if attention is None:
            return fast.norm_add(u, last, carried, relu=block.relu), state
        recalibration = fast.Recalibration(u, last)
        pooled = recalibration.pooled
        h, state = _attended(fast.attend, attention, pooled, state)
        return recalibration.add(h, carried, relu=block.relu), state

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks; stages and blocks of one shape share what comes out.

        Args:
            options: for `torch.compile`.
        """
        if fast.walks(self.unit):
            self.compiled = fast.WalkedStage(self.unit, **options)
        else:
            block = torch.compile(self._block, dynamic=False, fullgraph=True, **options)
            self.compiled = partial(in_order, block)
