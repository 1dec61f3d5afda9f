"""Rows for tests of the database."""

from __future__ import annotations

import json
import math

from dia_repro.experiments.names import BINS, BINS_PER_DECADE, LOWEST
from dia_repro.experiments.spec import ResNetBackbone
from dia_repro.results import writer
from dia_repro.results.database import Database
from dia_repro.results.leases import Lease, take
from dia_repro.results.parts import Settings, Source
from tests.helpers import tiny_spec

PROVENANCE = {
    "host": "h",
    "device": "d",
    "threads": 1,
    "python": "3",
    "torch": "2",
    "cuda": None,
    "package": "0",
    "git_commit": None,
    "git_clean": None,
    "command": "c",
    "data_sha256": "0",
    "test_images": 10_000,
    "from_epoch": 0,
}
TINY = tiny_spec()
FOUR_LAYERS = TINY.model.model_copy(update={"backbone": ResNetBackbone(depth=38)})
SPEC = TINY.model_copy(update={"model": FOUR_LAYERS})  # nothing trains it
ANALYSIS = Settings(1, Source.TRAINED, 10, 1, 0, False).canonical_json()
PART = '{"layers": 4, "samples": 10, "shares": [[0.5, 0.25, 0.25]]}'  # of target layer 4


def ensure(database: Database, seeds: int = 1) -> list[int]:
    numbers = writer.ensure_runs(database, {SPEC.spec_id: SPEC.canonical_json()}, range(seeds))
    return [numbers[SPEC.spec_id, seed] for seed in range(seeds)]


def begin(database: Database, run: int, owner: str = "me", place: str = "here") -> Lease:
    return take(database, run, owner, place, PROVENANCE)


def gradients(mean: float, stages: int = 3) -> str:
    record = {"count": 9, "zeros": 0, "not_finite": 0, "mean": mean, "variance": mean**2}
    return json.dumps([{**record, "quantiles": [], "histogram": binned(9, mean)}] * stages)


def binned(count: int, mean: float) -> list[int]:
    """The histogram of that many gradients of one size."""
    histogram = [0] * BINS
    place = 1 + math.floor((math.log10(mean) - LOWEST) * BINS_PER_DECADE) if mean else 0
    histogram[min(max(place, 0), BINS - 1)] = count
    return histogram


def epoch(number: int, top1: float = 50.0) -> dict[str, float]:
    return {
        "epoch": number,
        "lr": SPEC.recipe.rate_in(number - 1),
        "train_loss": 1.0,
        "train_top1": 50.0,
        "test_loss": 1.0,
        "test_top1": top1,
        "seconds": 2.0,
    }
