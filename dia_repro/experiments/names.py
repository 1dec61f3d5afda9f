"""Names that commands and experiments share; importing them costs nothing."""

from __future__ import annotations

from enum import StrEnum


class Protocol(StrEnum):
    """On what and for how long: the paper's way, or minutes on a laptop."""

    PAPER = "paper"
    DEMO = "demo"


class Precision(StrEnum):
    """Arithmetic of a training step; part of what an experiment is."""

    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"
