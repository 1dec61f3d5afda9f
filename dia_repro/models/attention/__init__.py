"""Attention units: from a block's pooled features (B, C) to its channel weights (B, C).

Each file of this folder registers the unit of a kind, or of several.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from dia_repro.models.attention.dia_lstm import DIALSTM
from dia_repro.models.attention.registry import AttentionFactory, register, unit_of

__all__ = ["DIALSTM", "AttentionFactory", "register", "unit_of"]

for _file in iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")
