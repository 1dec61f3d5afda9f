"""Parts of the suite for GPUs; apart from it, since the command line names them without torch."""

from __future__ import annotations

from enum import StrEnum


class GPUPart(StrEnum):
    """Parts of the GPU benchmark, the most important first: see `suites.gpu_suite`."""

    DIANET = "dianet"
    MODES = "modes"
    SEVERAL = "several"
    RESNET = "resnet"
    IMAGENET = "imagenet"
