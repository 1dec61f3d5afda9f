"""Controls that differ from DIA-LSTM in one property: learning, sharing, or the start."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dia_repro.models.attention.dia_lstm import DIALSTM, CellState, DIALSTMCell
from dia_repro.models.attention.registry import register


@register("dia-lstm-frozen", shared=True)
class FrozenDIALSTM(DIALSTM):
    """DIA-LSTM whose weights stay as they were drawn.

    With the same seed it starts as DIA-LSTM does. Its weights get no gradient and no weight decay,
    and are not counted as parameters, since they are not trained; features still get gradients
    through it. If it does what DIA-LSTM does, learning is not the reason.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__(channels, reduction)
        self.requires_grad_(False)


@register("lstm-per-block")
class BlockLSTM(DIALSTM):
    """DIA-LSTM whose weights are not shared: one cell for each block.

    The cells of a stage's blocks still pass their state on: what is missing is that they are the
    same cell. If it does what DIA-LSTM does, sharing is not the reason.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__(channels, reduction)


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
        o, c = self.gated(y, state)
        return o * (c + self.bias).sigmoid(), c


@register("dia-lstm-start", shared=True)
class StartedDIALSTM(nn.Module):
    """DIA-LSTM that starts near another attention than 0.25.

    DIA-LSTM's attention is h = σ(o)·σ(c), and before training o and c are near 0. A bias b with
    σ(b)² = s, so b = logit(√s), in both factors starts it near s instead: h = σ(o + b)·σ(c + b).

    b is the start of the output gate's own bias, which is learned from there. The cell has no bias
    in eq. 1: there b is a constant, added where the attention is read and not carried on, so that
    neither c's course nor the number of parameters changes. With s = 0.25 b is 0, and the unit is
    DIA-LSTM. An attention of 1 is out of a sigmoid's reach; with s = 0.95 both factors start at
    0.975.

    Args:
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
