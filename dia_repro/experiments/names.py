"""Names that commands and experiments share; importing them costs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dia_repro.errors import UsageError

# How the names of a user's own data begin.
FOLDER, PACKED = "folder:", "packed:"
# To which the shorter sides of packed images may be reduced, in pixels.
LARGEST_SIDE = 4096
# Of gradients (Figure 6): recorded quantiles, and bins of a histogram by powers of ten.
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
LOWEST, HIGHEST, BINS_PER_DECADE = -12, 4, 10
BINS = (HIGHEST - LOWEST) * BINS_PER_DECADE + 2  # with those below and above


def folder_path(dataset: str) -> Path:
    """Return the path in `folder:PATH` or `packed:PATH`.

    Raises:
        UsageError: there is none, or it is in the home folder of an unknown user.
    """
    kind, _, text = dataset.partition(":")
    if not text:
        raise UsageError(f"{kind}: needs the path of a folder behind it")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        user = text.split("/")[0].removeprefix("~")
        raise UsageError(f"{dataset}: there is no home folder of {user or 'yours'}") from error


class Protocol(StrEnum):
    """On what and for how long: the paper's way, or minutes on a laptop."""

    PAPER = "paper"
    DEMO = "demo"


class Precision(StrEnum):
    """Arithmetic of a training step; part of what an experiment is."""

    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"


@dataclass(frozen=True)
class DataLocation:
    """Where data are on this machine; no part of an experiment.

    Attributes:
        root: the folder that holds downloaded data sets.
        folder: the user's own images, if those are trained on.
        skip_damaged: whether to leave out those of them that cannot be decoded.
    """

    root: Path
    folder: Path | None = None
    skip_damaged: bool = False

    def absolute(self) -> DataLocation:
        """Return the same location for a process with another working folder."""
        folder = self.folder.absolute() if self.folder else None
        return DataLocation(self.root.absolute(), folder, self.skip_damaged)


class Keep(StrEnum):
    """Which weights stay when a run is done."""

    LAST = "last"
    BEST = "best"
    NONE = "none"


class Init(StrEnum):
    """How convolutions start, where that is varied: see `analysis.divergence_probe`."""

    OWN = "own"
    FAN_IN = "fan-in"
    XAVIER = "xavier"
    TORCH = "torch"
