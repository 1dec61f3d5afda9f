"""Analyses in the database: their settings and their parts, checked when they are read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from dia_repro.experiments.backbones import CIFARBackbone
from dia_repro.experiments.names import BINS, BINS_PER_DECADE, LOWEST, QUANTILES
from dia_repro.experiments.spec import ModelSpec

ROUNDING = 1e-9  # of a sum of shares
# Edges of the bins of a histogram of gradients, with some tolerance: values are float32.
_DECADES = [LOWEST + step / BINS_PER_DECADE for step in range(BINS - 1)]
LOWER = [0.0, *(10**decade * (1 - 1e-3) for decade in _DECADES)]
UPPER = [*(10**decade * (1 + 1e-3) for decade in _DECADES), math.inf]
MOST = 2**53  # elements, trees or images: exact as a float
# What the numbers of an analysis depend on, of the environment that it was made in. One analysis
# has parts of one environment only.
LIBRARIES = ("python", "torch", "numba", "numpy", "scikit-learn")
DECISIVE = ("device", "capability", *LIBRARIES, "code")


class Source(StrEnum):
    """Origin of hidden states."""

    TRAINED = "trained"
    INITIAL = "initial"  # the same network before training
    SHUFFLED = "shuffled"  # trained; images are in another order for each layer


Count = Annotated[int, Field(strict=True, ge=1, le=MOST)]
NotNegative = Annotated[int, Field(strict=True, ge=0, le=MOST)]


@dataclass(frozen=True)
class Settings:
    """Settings that forests (Figure 5) depend on, in addition to the run.

    Attributes:
        stage: number of the stage, from 1.
        source: origin of the hidden states.
        samples: number of test images.
        trees: number of trees of each forest.
        seed: seed of the choice of images and of the forests.
        library: whether scikit-learn grows the trees.
    """

    stage: Count
    source: Source
    samples: Count
    trees: Count
    seed: NotNegative
    library: bool

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Return the settings of an analysis whose kind is `gini`.

        Raises:
            ValueError: dia-repro does not write such settings.
        """
        settings = _SETTINGS.validate_json(text)
        if settings.canonical_json() != text:
            raise ValueError("settings of forests are not as dia-repro writes them")
        return settings

    def canonical_json(self) -> str:
        """Return the text that identifies these settings in the database."""
        return json.dumps({"kind": "gini", **asdict(self)}, sort_keys=True)


@dataclass
class ForestPart:
    """Result of forests for a target layer (Figure 5).

    Attributes:
        shares: for each tree, the importances of its source layers.
    """

    layers: Count
    samples: Count
    shares: list[list[Annotated[FiniteFloat, Field(ge=0, le=1 + ROUNDING)]]]


@dataclass
class GradientRecord:
    """Value that `training.gradients.summarise` returns for a stage (Figure 6)."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    count: Count
    zeros: NotNegative
    not_finite: NotNegative
    mean: float
    variance: float
    quantiles: list[float]
    histogram: Annotated[list[NotNegative], Field(min_length=BINS, max_length=BINS)]

    def __post_init__(self) -> None:
        if len(self.quantiles) not in (0, len(QUANTILES)):
            raise ValueError("a record of gradients has not all quantiles")
        binned = self.count - self.zeros - self.not_finite
        if sum(self.histogram) != binned or self.quantiles != sorted(self.quantiles):
            raise ValueError("a record of gradients has impossible values")
        if not binned + self.zeros:  # nothing is finite, so there are no moments
            return
        finite = binned + self.zeros
        least, _ = _moments(self.histogram, LOWER, finite)
        most, spread = _moments(self.histogram, UPPER, finite)
        if not (least <= self.mean <= most and 0 <= self.variance <= spread):
            raise ValueError("a record of gradients has moments that its histogram cannot have")


@dataclass
class _Kind:
    kind: str


def _moments(histogram: Sequence[int], edges: Sequence[float], count: int) -> tuple[float, float]:
    """Return mean and largest variance if each value were at that edge of its bin."""
    there = [(number, edge) for number, edge in zip(histogram, edges, strict=True) if number]
    mean = sum(number * edge for number, edge in there) / count
    square = sum(number * edge * edge for number, edge in there) / count
    return mean, square * count / max(1, count - 1)


# Their errors, as for too deep nesting, are `ValueError`s, which `Database.translated` turns into
# one line.
_KIND, _PART = TypeAdapter(_Kind), TypeAdapter(ForestPart)
_RECORDS = TypeAdapter(list[GradientRecord])
_SETTINGS = TypeAdapter(Settings)
_CIRCUMSTANCES = TypeAdapter(dict[str, Any])


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
        # A tree that finds nothing has shares of 0.
        if any(min(abs(sum(tree) - 1), sum(tree)) > ROUNDING * target for tree in part.shares):
            raise ValueError(f"part {target} of an analysis has shares that do not sum up to 1")
    if len({(part.layers, part.samples, len(part.shares)) for part in parts.values()}) > 1:
        raise ValueError("parts of an analysis differ in layers, images or trees")
    return parts


def is_whole(parts: Mapping[int, ForestPart]) -> bool:
    """Return whether an analysis has a part for each target layer."""
    first = next(iter(parts.values()), None)
    return first is not None and len(parts) == first.layers - 1


def environment(circumstances: str) -> str:
    """Return, as JSON, what an analysis's numbers depend on, of the circumstances it was made in.

    Raises:
        ValueError: they cannot be read.
    """
    known = _CIRCUMSTANCES.validate_json(circumstances)
    return json.dumps([known.get(name) for name in DECISIVE])


def same_environment(one_text: str, other_text: str) -> bool:
    """Return whether the circumstances of two analyses, JSON, are of one environment.

    Raises:
        ValueError: they cannot be read.
    """
    return environment(one_text) == environment(other_text)


def _check_forests(settings: Settings, parts: Mapping[int, ForestPart], model: ModelSpec) -> None:
    attention, backbone = model.attention, model.backbone
    there = getattr(attention, "stages", None) or range(1, backbone.stages + 1)
    if attention.kind != "dia-lstm" or settings.stage not in there:
        raise ValueError(f"forests of stage {settings.stage}, where the network has no DIA unit")
    for part in parts.values():
        if len(part.shares) != settings.trees or part.samples > settings.samples:
            raise ValueError("forests have other numbers of trees or images than their settings")
        if isinstance(backbone, CIFARBackbone) and part.layers != backbone.blocks:
            raise ValueError(
                f"forests of {part.layers} layers, the network's stages have {backbone.blocks}"
            )


def gradient_records(contents: Mapping[int, str], stages: int) -> dict[int, list[GradientRecord]]:
    """Return what a run has recorded for each of its network's stages, by epochs done."""
    found = {epochs: _RECORDS.validate_json(contents[epochs]) for epochs in sorted(contents)}
    for epochs, records in found.items():
        if len(records) != stages:
            raise ValueError(
                f"part {epochs} has gradients of {len(records)} stages, the network has {stages}"
            )
    return found


def check_parts(
    settings: str, contents: Mapping[int, str], model: ModelSpec, epochs: int, *, finished: bool
) -> None:
    """Raise `ValueError` unless dia-repro writes such parts.

    Args:
        model: the run's network.
        epochs: number of epochs of the whole training.
        finished: whether the run is.
    """
    match kind_of(settings):
        case "gini":
            _check_forests(Settings.from_json(settings), forest_parts(contents), model)
            if not finished:
                raise ValueError("forests of a run that is not finished")
        case "gradients":
            gradient_records(contents, model.backbone.stages)
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
