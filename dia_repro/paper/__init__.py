"""What the paper reports: its tables' figures, its hyperparameters, its known misprints.

Huang, Liang, Liang, Yang: DIANet: Dense-and-Implicit Attention Network, AAAI 2020.
The figures stand in TOML files beside this module, as printed; nothing else in the suite
repeats one.
"""

from __future__ import annotations

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

__all__ = [
    "UNITS",
    "Deviation",
    "Hyperparameters",
    "PaperCell",
    "PaperTable",
    "deviation",
    "figures",
    "hyperparameters",
    "tables",
]
