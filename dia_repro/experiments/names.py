"""Names that commands and experiments share; light to import."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dia_repro.errors import UsageError

FOLDER, PACKED = "folder:", "packed:"  # prefixes of the names of a user's data
LARGEST_SIDE = 4096  # of the shorter side of packed images, in pixels
# Gradients (Figure 6): recorded quantiles, and bins of a histogram by powers of ten.
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
LOWEST, HIGHEST, BINS_PER_DECADE = -12, 4, 10
BINS = (HIGHEST - LOWEST) * BINS_PER_DECADE + 2  # with those below and above


def folder_path(dataset: str) -> Path:
    """Return the path in `folder:PATH` or `packed:PATH`.

    Raises:
        UsageError: it is empty, or in the home folder of an unknown user.
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
    """Data and schedule: the paper's, or minutes on a laptop."""

    PAPER = "paper"
    DEMO = "demo"


class Precision(StrEnum):
    """Arithmetic of a training step; part of an experiment."""

    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"


@dataclass(frozen=True)
class DataLocation:
    """Location of data on this machine; no part of an experiment.

    Attributes:
        root: folder of downloaded data sets.
        folder: folder of the user's images, if those are trained on.
        skip_damaged: whether to leave out images that cannot be decoded.
    """

    root: Path
    folder: Path | None = None
    skip_damaged: bool = False

    def absolute(self) -> DataLocation:
        """Return the same location for a process with another working folder."""
        folder = self.folder.absolute() if self.folder else None
        return DataLocation(self.root.absolute(), folder, self.skip_damaged)


class SelectOn(StrEnum):
    """Images on which the accuracy chooses a run's epoch."""

    TEST = "test"
    VALIDATION = "validation"

    @property
    def accuracy(self) -> str:
        """Return what a run's accuracy is then."""
        if self is SelectOn.TEST:
            return "highest test accuracy over epochs"
        return "test accuracy of the epoch that did best on the images held out"


class Keep(StrEnum):
    """Weights that are kept when a run is done."""

    LAST = "last"
    BEST = "best"
    NONE = "none"


class Init(StrEnum):
    """Initialisation of convolutions: see `analysis.divergence_probe`."""

    OWN = "own"
    FAN_IN = "fan-in"
    XAVIER = "xavier"
    TORCH = "torch"
