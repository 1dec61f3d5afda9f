"""Networks: backbones, and the attention units that stages own."""

from __future__ import annotations

from dia_repro.models.build import from_spec
from dia_repro.models.counting import Counts, count, count_parameters
from dia_repro.models.named import build

__all__ = ["Counts", "build", "count", "count_parameters", "from_spec"]
