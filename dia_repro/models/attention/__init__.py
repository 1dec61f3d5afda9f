"""Attention units: from a block's pooled features (B, C) to its channel weights (B, C)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from dia_repro.models.attention.dia_lstm import DIALSTM
from dia_repro.models.attention.dia_se import DIASqueezeExcitation
from dia_repro.models.attention.se import SqueezeExcitation

__all__ = ["DIALSTM", "AttentionFactory", "DIASqueezeExcitation", "SqueezeExcitation"]


@dataclass(frozen=True)
class AttentionFactory:
    """Makes a network's attention units: one a block for `se`, one a stage for the DIA kinds.

    Attributes:
        kind: `none`, `se`, `dia-se` or `dia-lstm`.
        reduction: r of the unit's bottleneck.
        bias: of the linear layers of `se` and `dia-se`.
        activation: output activation of `dia-lstm`.
        cells: stacked cells of `dia-lstm`.
        stages: the stages, counted from 1, that have attention; None for all (Table 7 leaves
            one out).
        extraction: F_ext, `gap` or `bn+gap`: the latter puts a BN at the end of each residual
            branch, whose result is both pooled and rescaled.
    """

    kind: str = "none"
    reduction: int = 4
    bias: bool = True
    activation: str = "sigmoid"
    cells: int = 1
    stages: tuple[int, ...] | None = None
    extraction: str = "gap"

    def _covers(self, stage: int) -> bool:
        return self.stages is None or stage in self.stages

    def for_block(self, stage: int, channels: int) -> nn.Module | None:
        """A block's own unit, or None where it has none."""
        if self.kind == "se" and self._covers(stage):
            return SqueezeExcitation(channels, self.reduction, bias=self.bias)
        return None

    def for_stage(self, stage: int, channels: int) -> nn.Module | None:
        """The unit that a stage's blocks share, or None where they share none."""
        if self.kind == "dia-se" and self._covers(stage):
            return DIASqueezeExcitation(channels, self.reduction, bias=self.bias)
        if self.kind == "dia-lstm" and self._covers(stage):
            return DIALSTM(channels, self.reduction, self.activation, self.cells)
        return None

    def normalises(self, stage: int) -> bool:
        """Whether blocks of a stage end their residual branch with a BN of its own."""
        return self.extraction == "bn+gap" and self._covers(stage)
