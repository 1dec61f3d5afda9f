"""Databases in which networks have known accuracies, divergences and analyses."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from math import isnan

import numpy as np

from dia_repro.claims.evidence import cells_of, entry_at
from dia_repro.experiments.names import Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.experiments.spec import Spec
from dia_repro.paper.claims import CellKey, Claim, all_claims, all_controls
from dia_repro.paper.facts import tables
from dia_repro.results.database import Database
from dia_repro.results.schema import (
    GRADIENTS_SETTINGS,
    AnalysisPartRow,
    AnalysisRow,
    EpochRow,
    ProvenanceRow,
    RunRow,
    SpecRow,
    State,
)
from tests.results.rows import PROVENANCE, epoch

MOMENT = datetime(2026, 1, 2, 3, 4, 5)
PAPER, DEMO = Request(Protocol.PAPER), Request(Protocol.DEMO)
DIVERGED = float("nan")
MANY_IMAGES = 1_000_000_000  # of which one is no step


def add(
    database: Database,
    spec: Spec,
    accuracies: Sequence[float | None],
    images: int | None = MANY_IMAGES,
) -> list[int]:
    """Runs of seeds 0, 1, …: with an accuracy, diverged (nan) or never trained (None).

    Args:
        images: size of the test set; None where it was not recorded.
    """
    numbers = []
    with database.writing() as session:
        if session.get(SpecRow, spec.spec_id) is None:
            session.add(SpecRow(spec_id=spec.spec_id, json=spec.canonical_json()))
            session.flush()
        for seed, top1 in enumerate(accuracies):
            if top1 is None:
                continue
            state = State.DIVERGED if isnan(top1) else State.FINISHED
            run = RunRow(
                uid=f"{spec.spec_id}-{seed}",
                spec_id=spec.spec_id,
                seed=seed,
                state=state,
                created_at=MOMENT,
                changed_at=MOMENT,
            )
            session.add(run)
            session.flush()
            session.add(EpochRow(run_id=run.id, **epoch(1, top1 if state is State.FINISHED else 1)))
            attempt = {**PROVENANCE, "test_images": images}
            session.add(ProvenanceRow(run_id=run.id, started_at=MOMENT, **attempt))
            numbers.append(run.id)
    return numbers


def claim(name: str) -> Claim:
    """Return the claim, or the question of a control, of that name."""
    return next(claim for claim in (*all_claims(), *all_controls()) if claim.name == name)


def at(place: CellKey, request: Request = PAPER) -> Spec:
    return entry_at(place).spec(request)


def noisy(mean: float, seeds: int, spec: Spec, spread: float) -> list[float]:
    """Accuracies around a mean, the same for the same network."""
    draw = np.random.default_rng(list(spec.spec_id.encode()))
    return list(mean + spread * draw.standard_normal(seeds))


def printed(place: CellKey) -> float:
    cell = tables()[place.artifact].find(place.row, place.column, "top1")
    assert cell is not None
    return cell.value


def as_printed(
    database: Database,
    names: Iterable[str],
    seeds: int,
    *,
    sign: int = 1,
    spread: float = 0.002,
    request: Request = PAPER,
) -> None:
    """The networks of claims, about as accurate as the paper prints them.

    Args:
        sign: -1 turns every difference around.
    """
    places = {at(place, request): place for name in names for place in cells_of(claim(name))}
    for spec, place in places.items():
        mean = 50 + sign * (printed(place) - 50)
        add(database, spec, [DIVERGED] * seeds if isnan(mean) else noisy(mean, seeds, spec, spread))


def analyse(
    database: Database,
    run: int,
    settings: Mapping[str, object],
    parts: Mapping[int, str],
    circumstances: str = "{}",
) -> None:
    with database.writing() as session:
        row = AnalysisRow(
            run_id=run,
            settings=json.dumps(settings, sort_keys=True) if settings else GRADIENTS_SETTINGS,
            circumstances=circumstances,
            begun_at=MOMENT,
        )
        session.add(row)
        session.flush()
        for part, content in parts.items():
            session.add(
                AnalysisPartRow(analysis_id=row.id, part=part, content=content, seconds=1.0)
            )
