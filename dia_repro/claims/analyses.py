"""Claims on Figures 5 and 6 as rows of seeds, from analyses that the database keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dia_repro.analysis.gradients import whole_records
from dia_repro.analysis.stored import stored_integrations
from dia_repro.claims.readings import (
    DENSITY,
    EARLINESS,
    GRADIENTS,
    Reading,
    density_gains,
    earliness,
    gradient_gains,
)
from dia_repro.claims.rules import Row
from dia_repro.claims.runs import ClaimRuns
from dia_repro.paper import CellKey, Kind
from dia_repro.results.database import Database
from dia_repro.results.queries import RunSummary
from dia_repro.results.schema import State


def integration_rows(database: Database, runs: ClaimRuns) -> list[Row]:
    """Of Figure 5: stage 3 against the others, or how early a source is, for each trained run."""
    reading = DENSITY if runs.claim.kind is Kind.DENSER else EARLINESS
    read = density_gains if runs.claim.kind is Kind.DENSER else earliness
    finished = _finished(runs, runs.claim.cells[0])
    kept = stored_integrations(database, (run.id for run in finished.values()))
    gains = {seed: read(kept[run.id]) for seed, run in finished.items() if run.id in kept}
    behind = [run for seed, run in finished.items() if gains.get(seed)]
    settings = next((one.settings for stages in kept.values() for one in stages.values()), None)
    note = f"{settings.samples} images, {settings.trees} trees" if settings else ""
    return _rows(reading, gains, behind, note)


def gradient_rows(database: Database, runs: ClaimRuns) -> list[Row]:
    """Of Figure 6: DIANet against the original, for each seed that both were trained with."""
    moment = min if runs.claim.kind is Kind.GRADIENTS_INITIAL else max
    pair = runs.claim.comparisons[0]
    specs = runs.specs[pair.first], runs.specs[pair.second]
    first, second = _finished(runs, pair.first), _finished(runs, pair.second)
    gains, behind = {}, []
    for seed in sorted(first.keys() & second.keys()):
        both = [
            whole_records(database, of_seed[seed].id, spec)
            for of_seed, spec in zip((first, second), specs, strict=True)
        ]
        if all(both):
            gains[seed] = gradient_gains(*(records[moment(records)] for records in both))
            behind += [first[seed], second[seed]]
    return _rows(GRADIENTS, gains, behind, "")


def _finished(runs: ClaimRuns, cell: CellKey) -> dict[int, RunSummary]:
    return {run.seed: run for run in runs.done(cell) if run.state is State.FINISHED}


def _rows(
    reading: Reading,
    gains: Mapping[int, Mapping[str, float]],
    behind: Sequence[RunSummary],
    note: str,
) -> list[Row]:
    return [
        Row(
            compared=label,
            unit=reading.unit,
            differences={seed: of_one[label] for seed, of_one in gains.items() if label in of_one},
            begun=bool(behind),
            runs=tuple(behind),
            note=note,
        )
        for label in reading.labels
    ]
