"""The training step against a plain loop; the command's choices, which need no torch."""

from __future__ import annotations

from enum import StrEnum


class Suite(StrEnum):
    """Suites of measurements."""

    CPU = "cpu"
    GPU = "gpu"
    INPUT = "input"
    LAUNCHES = "launches"


class GPUPart(StrEnum):
    """Parts of `suites.gpu_suite`, the most important first."""

    DIANET = "dianet"
    MODES = "modes"
    SEVERAL = "several"
    RESNET = "resnet"
    IMAGENET = "imagenet"
