"""What the paper reports: its figures, hyperparameters, known misprints and claims.

Huang, Liang, Liang, Yang: DIANet: Dense-and-Implicit Attention Network, AAAI 2020.
Its figures stand in TOML files beside this module, as printed; nothing else in the suite
repeats one.
"""

from __future__ import annotations

from dia_repro.paper.claims import CellKey, Claim, Comparison, Kind, all_claims, claim, equal_within
from dia_repro.paper.facts import (
    UNITS,
    Deviation,
    Hyperparameters,
    PaperCell,
    PaperTable,
    deviation,
    figures,
    hyperparameters,
    tables,
)
from dia_repro.paper.independent import (
    SOURCE,
    IndependentResult,
    independent,
    independent_row,
    tally,
)

__all__ = [
    "SOURCE",
    "UNITS",
    "CellKey",
    "Claim",
    "Comparison",
    "Deviation",
    "Hyperparameters",
    "IndependentResult",
    "Kind",
    "PaperCell",
    "PaperTable",
    "all_claims",
    "claim",
    "deviation",
    "equal_within",
    "figures",
    "hyperparameters",
    "independent",
    "independent_row",
    "tables",
    "tally",
]
