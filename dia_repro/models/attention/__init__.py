"""Attention units: from a block's pooled features (B, C) to its channel weights (B, C)."""

from __future__ import annotations

from torch import nn

from dia_repro.models.attention.dia_lstm import DIALSTM
from dia_repro.models.attention.dia_se import DIASqueezeExcitation
from dia_repro.models.attention.se import SqueezeExcitation

__all__ = ["DIALSTM", "AttentionFactory", "DIASqueezeExcitation", "SqueezeExcitation"]


class AttentionFactory:
    """Makes a network's attention units: one a block for `se`, one a stage for the DIA kinds.

    Args:
        kind: `none`, `se`, `dia-se` or `dia-lstm`.
        reduction: r of the unit's bottleneck.
        activation: output activation of `dia-lstm`.
        cells: stacked cells of `dia-lstm`.
        stages: the stages, counted from 1, that have attention at all (Table 7 leaves one out).
    """

    def __init__(
        self,
        kind: str,
        reduction: int = 4,
        activation: str = "sigmoid",
        cells: int = 1,
        stages: tuple[int, ...] = (1, 2, 3),
    ) -> None:
        self.kind, self.reduction, self.stages = kind, reduction, stages
        self.activation, self.cells = activation, cells

    def for_block(self, stage: int, channels: int) -> nn.Module | None:
        """A block's own unit, or None where it has none."""
        if self.kind == "se" and stage in self.stages:
            return SqueezeExcitation(channels, self.reduction)
        return None

    def for_stage(self, stage: int, channels: int) -> nn.Module | None:
        """The unit that a stage's blocks share, or None where they share none."""
        if stage not in self.stages:
            return None
        if self.kind == "dia-se":
            return DIASqueezeExcitation(channels, self.reduction)
        if self.kind == "dia-lstm":
            return DIALSTM(channels, self.reduction, self.activation, self.cells)
        return None
