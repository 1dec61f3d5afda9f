"""DIA-LSTM: one modified LSTM that walks over the blocks of a stage.

Huang, Liang, Liang, Yang: DIANet, AAAI 2020, eq. 1 and Figure 4 (bottom).

Layer recipe of the first cell, for the pooled vector y_t and the hidden state h_{t-1} alike:
Linear(C, C/r) → ReLU → Linear(C/r, 4C); their sum is cut into the gates. What differs from a
standard LSTM: the reduction shared by the four gates, and the sigmoid in place of tanh at the
output. Cells stacked on the first (Table 6) have plain Linear(C, 4C) projections and see the
hidden state of the cell below after dropout; only so does the count of 3.33 M come out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dia_repro.models.attention.registry import reduced, register

ACTIVATIONS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}
STACK_DROPOUT = 0.1

CellState = tuple[Tensor, Tensor]


def _reduced(channels: int, reduction: int) -> nn.Sequential:
    inner = reduced(channels, reduction)
    return nn.Sequential(
        nn.Linear(channels, inner), nn.ReLU(inplace=True), nn.Linear(inner, 4 * channels)
    )


class DIALSTMCell(nn.Module):
    """One LSTM cell; `reduction=None` gives plain projections (the upper cells of a stack)."""

    def __init__(self, channels: int, reduction: int | None, activation: str) -> None:
        super().__init__()
        self.activation = activation
        if reduction is None:
            self.from_input: nn.Module = nn.Linear(channels, 4 * channels)
            self.from_hidden: nn.Module = nn.Linear(channels, 4 * channels)
        else:
            self.from_input = _reduced(channels, reduction)
            self.from_hidden = _reduced(channels, reduction)

    def forward(self, y: Tensor, state: CellState) -> CellState:
        """y, h and c, each (B, C), to the new (h, c), each (B, C); eq. 1."""
        o, c = self.gated(y, state)
        return o * ACTIVATIONS[self.activation](c), c

    def gated(self, y: Tensor, state: CellState) -> tuple[Tensor, Tensor]:
        """Return the output gate σ(o) and the new c, each (B, C)."""
        h, c = state
        gates = self.from_input(y) + self.from_hidden(h)
        i, f, g, o = gates.chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid(), c


@register("dia-lstm", shared=True)
class DIALSTM(nn.Module):
    """Unit that the blocks of a stage share: `cells` stacked LSTM cells.

    Args:
        channels: C, the channels of the stage's residual branches (N in the paper).
        reduction: r of the first cell; C/r is rounded down.
        activation: output activation, a key of `ACTIVATIONS`.
        cells: number of stacked cells (Table 6: 1 or 3).
    """

    def __init__(
        self, channels: int, reduction: int = 4, activation: str = "sigmoid", cells: int = 1
    ) -> None:
        super().__init__()
        reductions = [reduction, *[None] * (cells - 1)]
        self.cells = nn.ModuleList(DIALSTMCell(channels, r, activation) for r in reductions)
        self.dropout = nn.Dropout(STACK_DROPOUT)

    def forward(
        self, pooled: Tensor, state: tuple[CellState, ...] | None = None
    ) -> tuple[Tensor, tuple[CellState, ...]]:
        """One step over the blocks of a stage.

        Args:
            pooled: GAP(a_t), (B, C).
            state: state that the previous block's call returned; None at the first block of a
                stage, where h and c are zero.

        Returns:
            The attention vector h_t, (B, C), and the state for the next block.
        """
        if state is None:
            zero = torch.zeros_like(pooled)
            state = ((zero, zero),) * len(self.cells)
        y, after = pooled, []
        for index, (cell, before) in enumerate(zip(self.cells, state, strict=True)):
            y, c = cell(self.dropout(y) if index else y, before)
            after.append((y, c))
        return y, tuple(after)
