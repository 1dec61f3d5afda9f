"""Figure 6: gradients at the stages' outputs of networks without skips, as runs recorded them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dia_repro.analysis.states import NotAnalysableError
from dia_repro.analysis.stored import NoRunError, finished_runs
from dia_repro.artifacts.figure6 import FIGURE6
from dia_repro.experiments.spec import Spec
from dia_repro.results.database import Database, one_state
from dia_repro.results.parts import gradient_records
from dia_repro.results.queries import RunDetail, analysis_parts, run_detail
from dia_repro.results.schema import GRADIENTS_SETTINGS, State

LABELS = {entry.model: entry.column for entry in FIGURE6.entries}
Record = dict[str, Any]


@dataclass(frozen=True)
class RecordedRun:
    """A run with what it recorded.

    Attributes:
        label: "DIANet", "original", …; the kind of attention where it is not Figure 6's network.
        records: of each stage, by the number of epochs done, see `training.gradients`.
    """

    run: RunDetail
    spec: Spec
    label: str
    records: dict[int, list[Record]]

    @property
    def moments(self) -> tuple[int, int]:
        """Epochs done at the first and at the last record."""
        return 0, _last(self.spec)


@one_state
def recorded_runs(database: Database, run_ids: Sequence[int]) -> list[RecordedRun]:
    """The runs asked for; by default the best finished one of each of Figure 6's networks.

    By default all are on the same data, the paper's if there are any on those, with as many
    networks as possible, in the figure's order.

    Raises:
        NotAnalysableError: a run asked for is not finished, or has recorded no gradients.
        NoRunError: there is no such run.
    """
    if run_ids:
        return [_checked(database, run_detail(database, number)) for number in run_ids]
    groups: dict[tuple[object, ...], dict[str, RecordedRun]] = {}
    for one in _of_the_figure(database):
        group = groups.setdefault((one.spec.data, one.spec.recipe, one.spec.precision), {})
        before = group.get(one.label)
        if before is None or _top1(one) > _top1(before):
            group[one.label] = one
    if not groups:
        raise NoRunError(
            f"no run of ResNet56 without skips is finished in {database.name}: "
            "dia-repro run figure6"
        )

    def rank(group: dict[str, RecordedRun]) -> tuple[int, bool]:
        spec = next(iter(group.values())).spec
        return len(group), spec.data.dataset == FIGURE6.entries[0].dataset

    best = max(groups.values(), key=rank)
    return [best[label] for label in LABELS.values() if label in best]


def _of_the_figure(database: Database) -> Iterable[RecordedRun]:
    for spec, summary in finished_runs(database, LABELS):
        records = whole_records(database, summary.id, spec)
        if records:
            yield RecordedRun(run_detail(database, summary.id), spec, LABELS[spec.model], records)


def _checked(database: Database, run: RunDetail) -> RecordedRun:
    number, spec = run.summary.id, Spec.from_json(run.spec_json)
    if run.summary.state is not State.FINISHED:
        raise NotAnalysableError(f"run {number} is {run.summary.state}: its training has no end")
    if not records_of(database, number):
        raise NotAnalysableError(
            f"run {number} has recorded no gradients: only networks without skips do"
        )
    records = whole_records(database, number, spec)
    if not records:
        raise NotAnalysableError(f"run {number} lacks its first or its last record of gradients")
    return RecordedRun(run, spec, LABELS.get(spec.model, spec.model.attention.kind), records)


def whole_records(database: Database, run_id: int, spec: Spec) -> dict[int, list[Record]]:
    """What a run has recorded; nothing where its first or its last record is missing."""
    records = records_of(database, run_id)
    return records if {0, _last(spec)} <= records.keys() else {}


def _last(spec: Spec) -> int:
    """Epochs done at the last record: it is made as the last epoch begins."""
    return spec.recipe.epochs - 1


def records_of(database: Database, run_id: int) -> dict[int, list[Record]]:
    """What a run has recorded: of each stage, by the number of epochs done."""
    parts = analysis_parts(database, run_id, GRADIENTS_SETTINGS)
    with database.translated():
        found = gradient_records(parts)
    return {epochs: [asdict(record) for record in stages] for epochs, stages in found.items()}


def _top1(one: RecordedRun) -> float:
    return one.run.summary.best_top1 or 0.0
