"""The training step against a plain loop; choices of the command, which it names without torch."""

from __future__ import annotations

from enum import StrEnum


class Suite(StrEnum):
    """Everything that a kind of machine can measure."""

    CPU = "cpu"
    GPU = "gpu"
    INPUT = "input"


class GPUPart(StrEnum):
    """Parts of the suite for GPUs, the most important first: see `suites.gpu_suite`."""

    DIANET = "dianet"
    MODES = "modes"
    SEVERAL = "several"
    RESNET = "resnet"
    IMAGENET = "imagenet"
