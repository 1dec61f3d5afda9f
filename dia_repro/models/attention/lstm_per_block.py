"""An LSTM whose weights are not shared, one cell for each block: a control.

The cells of a stage's blocks still pass their state on: what is missing is that they are the same
cell. If it does what DIA-LSTM does, sharing is not the reason.
"""

from __future__ import annotations

from dia_repro.models.attention.dia_lstm import DIALSTM
from dia_repro.models.attention.registry import register


@register("lstm-per-block")
class BlockLSTM(DIALSTM):
    """One block's cell, with DIA-LSTM's layers and weights of its own.

    Args:
        channels: C, the channels of the block's residual branch.
        reduction: r; C/r is rounded down.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__(channels, reduction)
