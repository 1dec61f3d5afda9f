"""Networks: backbones, and the attention units that stages own."""

from __future__ import annotations

from dia_repro.models.build import build
from dia_repro.models.counting import build_meta, count_macs, count_parameters

__all__ = ["build", "build_meta", "count_macs", "count_parameters"]
