"""Runs that an analysis takes: the run asked for, or the best of each of a figure's networks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from dia_repro.artifacts.table import TableArtifact
from dia_repro.errors import AbsentError, UsageError
from dia_repro.experiments.spec import Spec
from dia_repro.results.database import Database
from dia_repro.results.queries import RunDetail, RunSummary, all_spec_json, run_detail, runs_of
from dia_repro.results.schema import State


class NotAnalysableError(UsageError):
    """The run has no result of the kind that the analysis needs."""


class NoRunError(AbsentError):
    """No run of the networks to analyse is finished."""


def finished_spec(run: RunDetail) -> Spec:
    """Return the spec of a finished run; its attention need not be registered here.

    Raises:
        NotAnalysableError: the run is not finished.
    """
    if run.summary.state is not State.FINISHED:
        raise NotAnalysableError(
            f"run {run.summary.id} is {run.summary.state}: it has no trained network"
        )
    return Spec.from_stored(run.spec_json)


def best_runs(
    database: Database,
    figure: TableArtifact,
    usable: Callable[[RunSummary, Spec], bool] = lambda _run, _spec: True,
) -> dict[str, RunDetail]:
    """Return the best finished run of each of a figure's networks, by column, in its order.

    All are on the same data: the data with runs of most networks, then the paper's, then those
    with the highest test accuracies. Data of which images are held out do not count.

    Args:
        usable: condition on a finished run.

    Raises:
        NoRunError: there is no such run.
    """
    columns = {entry.model: entry.column for entry in figure.entries}
    all_specs = map(Spec.from_stored, all_spec_json(database))
    specs = {
        spec.spec_id: spec
        for spec in all_specs
        if spec.model in columns and spec.data.validation is None
    }
    groups: dict[tuple[object, ...], dict[str, RunSummary]] = defaultdict(dict)
    for spec_id, runs in runs_of(database, specs).items():
        spec = specs[spec_id]
        finished = [run for run in runs if run.state is State.FINISHED and usable(run, spec)]
        if finished:
            papers = spec.data.dataset == figure.entries[0].dataset
            group = groups[papers, spec.data, spec.recipe, spec.precision]
            group[columns[spec.model]] = max(finished, key=_rank)
    if not groups:
        raise NoRunError(
            f"no run of {figure.name}'s networks is finished in {database.name}: "
            f"dia-repro run {figure.name}"
        )

    def order(data: tuple[object, ...]) -> tuple[object, ...]:
        found = groups[data]
        return len(found), data[0], sorted(map(_rank, found.values()), reverse=True)

    chosen = groups[max(groups, key=order)]
    return {
        column: run_detail(database, chosen[column].id)
        for column in columns.values()
        if column in chosen
    }


def _rank(run: RunSummary) -> tuple[float, int]:
    return run.best_top1 or 0.0, -run.id
