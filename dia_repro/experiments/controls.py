"""Attention kinds of the controls, which the paper did not train: the options of each; no torch.

Each takes one thing away from a DIANet, or gives one thing of it to another network.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from dia_repro.experiments.attention import KINDS, SHIPPED, AttentionSpec, Count, Rate


class ConstantAttention(AttentionSpec):
    """A constant in the unit's place.

    Attributes:
        value: factor of each residual branch. DIA-LSTM starts near σ(0)·σ(0) = 0.25, SE near
            σ(0) = 0.5.
    """

    titles: ClassVar[dict[str, str]] = {"constant": "constant {value:g}"}
    kind: Literal["constant"] = "constant"
    value: Rate = 0.25


class LSTMVariant(AttentionSpec):
    """DIA-LSTM that is not trained, or whose weights are not shared.

    Attributes:
        reduction: r.
    """

    titles: ClassVar[dict[str, str]] = {
        "dia-lstm-frozen": "DIA-LSTM frozen",
        "lstm-per-block": "LSTM per block",
    }
    details = "r={reduction}"
    kind: Literal["dia-lstm-frozen", "lstm-per-block"]
    reduction: Count = 4


class DIALSTMStart(AttentionSpec):
    """DIA-LSTM that starts near another value than 0.25.

    Attributes:
        reduction: r.
        start: attention before training, while the gates see 0.
    """

    titles: ClassVar[dict[str, str]] = {"dia-lstm-start": "DIA-LSTM from {start:g}"}
    details = "r={reduction}"
    kind: Literal["dia-lstm-start"] = "dia-lstm-start"
    reduction: Count = 4
    start: Annotated[float, Field(gt=0, lt=1)] = 0.5


class BranchScale(AttentionSpec):
    """No unit, but each residual branch multiplied by its own learned number.

    Attributes:
        start: its value before training.
    """

    titles: ClassVar[dict[str, str]] = {"branch-scale": "branch scale from {start:.3g}"}
    kind: Literal["branch-scale"] = "branch-scale"
    start: Rate = 0.0


class ExtraBN(AttentionSpec):
    """No unit, but the BN of F_ext = BN + GAP at the end of each residual branch."""

    titles: ClassVar[dict[str, str]] = {"extra-bn": "extra BN"}
    kind: Literal["extra-bn"] = "extra-bn"
    extraction: Literal["bn+gap"] = "bn+gap"


OPTIONS = (ConstantAttention, LSTMVariant, DIALSTMStart, BranchScale, ExtraBN)
for _kinds in (SHIPPED, KINDS):
    _kinds.update({kind: options for options in OPTIONS for kind in options.titles})
