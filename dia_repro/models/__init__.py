"""Networks: backbones, and the attention units that stages own."""

from __future__ import annotations

from dia_repro.models.build import build
from dia_repro.models.counting import Counts, count, count_parameters

__all__ = ["Counts", "build", "count", "count_parameters"]
