"""Parts of analyses as the database has them, with their shapes checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError

from dia_repro.experiments.names import BINS, QUANTILES


@dataclass
class ForestPart:
    """What forests have found for a target layer (Figure 5).

    Attributes:
        shares: of each tree, the importances of its source layers.
    """

    layers: int
    samples: int
    shares: list[list[FiniteFloat]]


@dataclass
class GradientRecord:
    """What `training.gradients.summarise` returns of a stage (Figure 6)."""

    count: Annotated[int, Field(ge=1)]
    zeros: int
    not_finite: int
    mean: float
    variance: float
    quantiles: list[float]
    histogram: list[int]

    def __post_init__(self) -> None:
        if len(self.quantiles) not in (0, len(QUANTILES)) or len(self.histogram) != BINS:
            raise ValueError("a record of gradients has not all quantiles and bins")


@dataclass
class _Kind:
    kind: str


# Their errors are `ValueError`s, which `Database.translated` turns into one line; nesting that is
# too deep is such an error, too.
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
    """Return what a run has recorded: of each stage, by the number of epochs done.

    Args:
        stages: number of the network's stages.
    """
    found = {epochs: _RECORDS.validate_json(contents[epochs]) for epochs in sorted(contents)}
    for epochs, records in found.items():
        if len(records) != stages:
            raise ValueError(
                f"part {epochs} has gradients of {len(records)} stages, the network has {stages}"
            )
    return found


def check_parts(settings: str, contents: Mapping[int, str], stages: int) -> None:
    """Raise `ValueError` unless the parts of an analysis are what dia-repro writes.

    Args:
        stages: number of the network's stages.
    """
    kind = kind_of(settings)
    if kind == "gini":
        forest_parts(contents)
    elif kind == "gradients":
        gradient_records(contents, stages)
    else:
        raise ValueError(f"an analysis is of an unknown kind, {kind[:40]!r}")


def first_reason(error: Exception) -> str:
    """Return what is wrong; of many wrong fields, as pydantic lists them, the first."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return " ".join(str(error).split())
