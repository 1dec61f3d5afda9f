"""DIA-LSTM that starts near another value than 0.25: a control.

DIA-LSTM's attention is h = σ(o)·σ(c), and before training o and c are near 0. A bias b with
σ(b)² = s, so b = logit(√s), in both factors starts it near s instead: h = σ(o + b)·σ(c + b).

b is the start of the output gate's own bias, which is learned from there. The cell has no bias in
eq. 1: there b is a constant, added where the attention is read and not carried on, so that neither
c's course nor the number of parameters changes. With s = 0.25 b is 0, and the unit is DIA-LSTM. An
attention of 1 is out of a sigmoid's reach; with s = 0.95 both factors start at 0.975.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dia_repro.models.attention.dia_lstm import CellState, DIALSTMCell
from dia_repro.models.attention.registry import register


class StartedCell(DIALSTMCell):
    """DIA-LSTM's cell with the bias b in both factors of its attention.

    Args:
        channels: C.
        reduction: r.
        start: s, the attention to start near.
    """

    def __init__(self, channels: int, reduction: int, start: float) -> None:
        super().__init__(channels, reduction, "sigmoid")
        root = math.sqrt(start)
        self.bias = math.log(root / (1 - root))
        last: nn.Linear = self.from_input[-1]  # type: ignore[index]
        with torch.no_grad():
            last.bias[3 * channels :] += self.bias

    def forward(self, y: Tensor, state: CellState) -> CellState:
        """y, h and c, each (B, C), to the new (h, c), each (B, C)."""
        h, c = state
        gates = self.from_input(y) + self.from_hidden(h)
        i, f, g, o = gates.chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * (c + self.bias).sigmoid(), c


@register("dia-lstm-start", shared=True)
class StartedDIALSTM(nn.Module):
    """The unit one stage shares, which starts near a given attention.

    Args:
        channels: C, the channels of the stage's residual branches.
        reduction: r; C/r is rounded down.
        start: s, above 0 and below 1.
    """

    def __init__(self, channels: int, reduction: int = 4, start: float = 0.5) -> None:
        super().__init__()
        self.cell = StartedCell(channels, reduction, start)

    def forward(self, pooled: Tensor, state: CellState | None = None) -> tuple[Tensor, CellState]:
        """(B, C) pooled features → (B, C) channel weights, and h and c for the next block."""
        zero = torch.zeros_like(pooled)
        h, c = self.cell(pooled, state or (zero, zero))
        return h, (h, c)
