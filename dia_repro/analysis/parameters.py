"""The paper's #P cells and the networks' own counts, without training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import torch
from torch import nn

from dia_repro.artifacts import Entry, TableArtifact
from dia_repro.artifacts.paper import RATIOS
from dia_repro.experiments.names import Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.models import count
from dia_repro.models.attention import DIALSTM
from dia_repro.paper.facts import PaperCell, misprints

STAGE_WIDTHS = (64, 128, 256)  # channels of the stages of the paper's CIFAR ResNets


@dataclass(frozen=True)
class ParameterCount:
    """Parameter count of a network.

    Attributes:
        paper_millions: printed value; "" if the paper prints none.
        parameters: count of the network of the paper's protocol.
        macs: multiply-accumulates of its forward pass of one image of the paper's size.
        matches: whether the count, rounded to the printed decimals, is the printed value; None if
            the paper prints none.
        note: reason for a known misprint.
    """

    artifact: str
    row: str
    column: str
    paper_millions: str
    parameters: int
    macs: int
    matches: bool | None
    note: str

    @property
    def acceptable(self) -> bool:
        """True if the printed value matches, is a known misprint, or is missing."""
        return self.matches is not False or bool(self.note)


@dataclass(frozen=True)
class UnitCost:
    """Parameters of one stage's unit, by the paper's formulas and in real modules.

    "Implementation of DIA unit": without biases a standard LSTM has 8N² parameters, DIA-LSTM
    10N²/r.

    Attributes:
        channels: N.
        reduction: r.
        lstm_weights, dia_weights: weights of torch's LSTM cell and of ours, without biases.
    """

    channels: int
    reduction: int
    lstm_formula: int
    lstm_weights: int
    lstm_biases: int
    dia_formula: int
    dia_weights: int
    dia_biases: int


def parameter_counts(artifacts: Iterable[TableArtifact]) -> list[ParameterCount]:
    """Return the counts of all #P cells that the artifacts show, in the paper's order."""
    return [
        _count(entry, printed)
        for artifact in artifacts
        for entry in artifact.entries
        if entry.shown and (printed := artifact.paper.find(entry.row, entry.column, "params"))
    ]


def _count(entry: Entry, printed: PaperCell) -> ParameterCount:
    spec = entry.spec(Request(Protocol.PAPER))
    counted = count(spec.model, spec.data.classes, spec.data.image_size)
    matches, note = None, ""
    if printed.printed:
        matches = f"{counted.parameters / 1e6:.{printed.decimals}f}" == printed.printed
        cell = printed.artifact, entry.row, entry.column
        note = "" if matches else misprints().get(cell, "")
    return ParameterCount(
        artifact=printed.artifact,
        row=entry.row,
        column=entry.column,
        paper_millions=printed.printed,
        parameters=counted.parameters,
        macs=counted.macs,
        matches=matches,
        note=note,
    )


def unit_costs() -> list[UnitCost]:
    """Return the costs for each stage width and each ratio of Table 4."""
    costs = []
    for n, r in product(STAGE_WIDTHS, RATIOS):
        with torch.device("meta"):
            lstm, dia = _weights_and_biases(nn.LSTMCell(n, n)), _weights_and_biases(DIALSTM(n, r))
        costs.append(UnitCost(n, r, 8 * n**2, *lstm, 10 * n**2 // r, *dia))
    return costs


def _weights_and_biases(module: nn.Module) -> tuple[int, int]:
    weights = sum(p.numel() for p in module.parameters() if p.dim() > 1)
    return weights, sum(p.numel() for p in module.parameters()) - weights
