"""DIA-LSTM whose weights stay as they were drawn: a control.

With the same seed it starts as DIA-LSTM does. Its weights get no gradient and no weight decay, and
are not counted as parameters, since they are not trained; features still get gradients through it.
If it does what DIA-LSTM does, learning is not the reason.
"""

from __future__ import annotations

from dia_repro.models.attention.dia_lstm import DIALSTM
from dia_repro.models.attention.registry import register


@register("dia-lstm-frozen", shared=True)
class FrozenDIALSTM(DIALSTM):
    """The unit one stage shares, with weights that are not trained.

    Args:
        channels: C, the channels of the stage's residual branches.
        reduction: r; C/r is rounded down.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__(channels, reduction)
        self.requires_grad_(False)
