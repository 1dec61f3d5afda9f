"""What the paper reports: its figures, hyperparameters, known misprints and claims.

Huang, Liang, Liang, Yang: DIANet: Dense-and-Implicit Attention Network, AAAI 2020.
Its figures stand in TOML files beside this module, as printed; nothing else in the suite
repeats one.
"""

from __future__ import annotations

from dia_repro.paper.claims import (
    CONTROLS_QUESTION,
    OWN_CLAIM,
    CellKey,
    Claim,
    Comparison,
    Control,
    Kind,
    all_claims,
    all_controls,
    claim,
    equal_within,
)
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
    "CONTROLS_QUESTION",
    "OWN_CLAIM",
    "SOURCE",
    "UNITS",
    "CellKey",
    "Claim",
    "Comparison",
    "Control",
    "Deviation",
    "Hyperparameters",
    "IndependentResult",
    "Kind",
    "PaperCell",
    "PaperTable",
    "all_claims",
    "all_controls",
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
