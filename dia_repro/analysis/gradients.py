"""Figure 6: gradients at the stages' outputs of networks without skips, as runs recorded them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dia_repro.analysis.runs import NotAnalysableError, finished_runs, finished_spec
from dia_repro.artifacts.controls import SKIPS
from dia_repro.artifacts.paper import FIGURE6
from dia_repro.artifacts.table import TableArtifact
from dia_repro.experiments.names import BINS_PER_DECADE, LOWEST
from dia_repro.experiments.spec import Spec
from dia_repro.results.database import Database, one_state
from dia_repro.results.parts import gradient_records
from dia_repro.results.queries import RunDetail, analysis_parts, run_detail
from dia_repro.results.schema import GRADIENTS_SETTINGS

LABELS = {entry.model: entry.column for entry in (*SKIPS.entries, *FIGURE6.entries)}
Record = dict[str, Any]


@dataclass(frozen=True)
class RecordedRun:
    """A run with its records of gradients.

    Attributes:
        label: "DIANet", "original", …; the kind of attention of a network not in Figure 6.
        records: a record for each stage by the number of epochs done, see `training.gradients`.
    """

    run: RunDetail
    spec: Spec
    label: str
    records: dict[int, list[Record]]

    @property
    def moments(self) -> tuple[int, int]:
        """Numbers of epochs done at the first and at the last record."""
        return 0, _last(self.spec)


@one_state
def recorded_runs(
    database: Database, run_ids: Sequence[int], figure: TableArtifact = FIGURE6
) -> list[RecordedRun]:
    """Return the runs asked for; by default all of a figure's networks on the same data.

    Raises:
        NotAnalysableError: a run asked for is not finished, or lacks records.
        NoRunError, UnknownRunError: there is no such run.
    """
    if not run_ids:
        found = finished_runs(
            database, figure, lambda run, spec: bool(whole_records(database, run.id, spec))
        )
        run_ids = [run.id for runs in found.values() for run in runs]
    return [_recorded(database, run_detail(database, number)) for number in run_ids]


def _recorded(database: Database, run: RunDetail) -> RecordedRun:
    number, spec = run.summary.id, finished_spec(run)
    if not records_of(database, number, spec):
        raise NotAnalysableError(
            f"run {number} has recorded no gradients: only networks without skips do"
        )
    records = whole_records(database, number, spec)
    if not records:
        raise NotAnalysableError(f"run {number} lacks its first or its last record of gradients")
    return RecordedRun(run, spec, LABELS.get(spec.model, spec.model.attention.kind), records)


def grouped(found: Sequence[RecordedRun], *, apart: bool = False) -> dict[str, list[RecordedRun]]:
    """Return the runs of each network by its name, with their number where there are several.

    Args:
        apart: whether each run is a group; those of one name are named by their runs' numbers.
    """
    groups: dict[str, list[RecordedRun]] = {}
    for recorded in found:
        groups.setdefault(recorded.label, []).append(recorded)
    if not apart:
        return {
            f"{label} ({len(runs)} runs)" if runs[1:] else label: runs
            for label, runs in groups.items()
        }
    return {
        f"{run.label}, run {run.run.summary.id}" if groups[run.label][1:] else run.label: [run]
        for run in found
    }


def shares_by_decade(record: Record) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the bins' middles as powers of ten, and the share of all elements per decade."""
    inside = np.asarray(record["histogram"][1:-1], float)  # without those below and above the bins
    middles = LOWEST + (np.arange(len(inside)) + 0.5) / BINS_PER_DECADE
    return middles, inside / max(1, record["count"]) * BINS_PER_DECADE


def whole_records(database: Database, run_id: int, spec: Spec) -> dict[int, list[Record]]:
    """Return a run's records, or none if the first or the last one is missing."""
    records = records_of(database, run_id, spec)
    return records if {0, _last(spec)} <= records.keys() else {}


def _last(spec: Spec) -> int:
    """Return the number of epochs done at the last record, made when the last epoch begins."""
    return spec.recipe.epochs - 1


def records_of(database: Database, run_id: int, spec: Spec) -> dict[int, list[Record]]:
    """Return a run's records, one for each stage, by the number of epochs done."""
    parts = analysis_parts(database, run_id, GRADIENTS_SETTINGS)
    with database.translated():
        found = gradient_records(parts, spec.model.backbone.stages)
    return {epochs: [vars(record) for record in stages] for epochs, stages in found.items()}
