"""Parts of analyses in the database, with their shapes checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError

from dia_repro.experiments.names import BINS, QUANTILES

ROUNDING = 1e-9  # of a sum of shares


@dataclass
class ForestPart:
    """Result of forests for a target layer (Figure 5).

    Attributes:
        shares: for each tree, the importances of its source layers.
    """

    layers: int
    samples: int
    shares: list[list[Annotated[FiniteFloat, Field(ge=0, le=1 + ROUNDING)]]]


@dataclass
class GradientRecord:
    """Value that `training.gradients.summarise` returns for a stage (Figure 6)."""

    count: Annotated[int, Field(ge=1)]
    zeros: Annotated[int, Field(ge=0)]
    not_finite: Annotated[int, Field(ge=0)]
    mean: float
    variance: float
    quantiles: list[float]
    histogram: Annotated[list[int], Field(min_length=BINS, max_length=BINS)]

    def __post_init__(self) -> None:
        if len(self.quantiles) not in (0, len(QUANTILES)):
            raise ValueError("a record of gradients has not all quantiles")
        if self.zeros + self.not_finite > self.count or min(self.mean, self.variance) < 0:
            raise ValueError("a record of gradients has impossible values")


@dataclass
class _Kind:
    kind: str


# Their errors, as for too deep nesting, are `ValueError`s, which `Database.translated` turns into
# one line.
_KIND, _PART = TypeAdapter(_Kind), TypeAdapter(ForestPart)
_RECORDS = TypeAdapter(list[GradientRecord])


def kind_of(settings: str) -> str:
    """Return the kind of an analysis: `gini` or `gradients`.

    Raises:
        ValueError: the settings cannot be read; so do the functions below.
    """
    return _KIND.validate_json(settings).kind


def forest_parts(contents: Mapping[int, str]) -> dict[int, ForestPart]:
    """Return the parts of an analysis by target layer, each with (trees, target - 1) shares."""
    parts = {target: _PART.validate_json(content) for target, content in contents.items()}
    for target, part in parts.items():
        if not 2 <= target <= part.layers or {len(tree) for tree in part.shares} != {target - 1}:
            raise ValueError(f"part {target} of an analysis lacks shares of layers before it")
    if len({(part.layers, part.samples, len(part.shares)) for part in parts.values()}) > 1:
        raise ValueError("parts of an analysis differ in layers, images or trees")
    return parts


def gradient_records(contents: Mapping[int, str], stages: int) -> dict[int, list[GradientRecord]]:
    """Return what a run has recorded for each of its network's stages, by epochs done."""
    found = {epochs: _RECORDS.validate_json(contents[epochs]) for epochs in sorted(contents)}
    for epochs, records in found.items():
        if len(records) != stages:
            raise ValueError(
                f"part {epochs} has gradients of {len(records)} stages, the network has {stages}"
            )
    return found


def check_parts(settings: str, contents: Mapping[int, str], stages: int, epochs: int) -> None:
    """Raise `ValueError` unless dia-repro writes such parts.

    Args:
        stages: number of the network's stages.
        epochs: number of epochs of the whole training.
    """
    match kind_of(settings):
        case "gini":
            forest_parts(contents)
        case "gradients":
            gradient_records(contents, stages)
            if not 0 <= min(contents, default=0) <= max(contents, default=0) < epochs:
                raise ValueError(
                    f"gradients after {max(contents)} epochs, the training has {epochs}"
                )
        case kind:
            raise ValueError(f"an analysis is of an unknown kind, {kind[:40]!r}")


def first_reason(error: Exception) -> str:
    """Return the text of an error in one line; of many fields that pydantic lists, the first."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return " ".join(str(error).split())
