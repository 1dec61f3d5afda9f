"""Networks: backbones, and attention units that blocks or stages own; both in registries."""

from __future__ import annotations

from dia_repro.models.attention import register as register_attention
from dia_repro.models.build import build, from_spec
from dia_repro.models.counting import Counts, count, count_parameters

__all__ = ["Counts", "build", "count", "count_parameters", "from_spec", "register_attention"]
