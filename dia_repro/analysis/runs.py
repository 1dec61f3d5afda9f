"""Runs that an analysis takes: those asked for, or the finished ones of a figure's networks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from dia_repro.artifacts.table import TableArtifact
from dia_repro.errors import AbsentError, UsageError
from dia_repro.experiments.spec import Spec
from dia_repro.results.database import Database
from dia_repro.results.queries import RunDetail, RunSummary, all_spec_json, run_detail, runs_of
from dia_repro.results.schema import State

Usable = Callable[[RunSummary, Spec], bool]


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
    database: Database, figure: TableArtifact, usable: Usable = lambda _run, _spec: True
) -> dict[str, RunDetail]:
    """Return the best of the runs that `finished_runs` returns, by column.

    Raises:
        NoRunError: there is no such run.
    """
    found = finished_runs(database, figure, usable)
    return {column: run_detail(database, max(runs, key=_rank).id) for column, runs in found.items()}


def finished_runs(
    database: Database, figure: TableArtifact, usable: Usable = lambda _run, _spec: True
) -> dict[str, list[RunSummary]]:
    """Return the finished runs of each of a figure's networks, by column, in its order.

    All are on the same data at the same rate: those with runs of most networks, then the
    paper's data, then a protocol's rate, then those with the highest test accuracies. Data of which
    images are held out do not count.

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
    groups: dict[tuple[object, ...], dict[str, list[RunSummary]]] = defaultdict(dict)
    for spec_id, runs in runs_of(database, specs).items():
        spec = specs[spec_id]
        finished = [run for run in runs if run.state is State.FINISHED and usable(run, spec)]
        if finished:
            papers = spec.data.dataset == figure.entries[0].dataset
            usual = figure.at_usual_rate(spec)
            group = groups[papers, usual, spec.data, spec.recipe, spec.precision]
            group[columns[spec.model]] = finished
    if not groups:
        raise NoRunError(
            f"no run of {figure.name}'s networks is finished in {database.name}: "
            f"dia-repro run {figure.name}"
        )

    def order(data: tuple[object, ...]) -> tuple[object, ...]:
        best = (max(map(_rank, runs)) for runs in groups[data].values())
        return len(groups[data]), data[0], data[1], sorted(best, reverse=True)

    chosen = groups[max(groups, key=order)]
    return {column: chosen[column] for column in columns.values() if column in chosen}


def _rank(run: RunSummary) -> tuple[float, int]:
    return run.best_top1 or 0.0, -run.id
