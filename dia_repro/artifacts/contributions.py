"""What goes into a cell's mean, value by value, and the runs that each value comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dia_repro.results.queries import RunSummary
from dia_repro.results.schema import DONE, State

SIGN_OF_CHANGE = {"params_delta": 1, "params_drop": -1}


@dataclass(frozen=True)
class Contribution:
    """One value of those whose mean a cell shows.

    Attributes:
        value: in the cell's unit.
        runs: of the cell's own experiment, that say so; several where all say the same.
        compared: of the experiment that the value is a difference from.
    """

    value: float
    runs: tuple[RunSummary, ...]
    compared: tuple[RunSummary, ...] = ()


def contributions(
    metric: str, runs: Sequence[RunSummary], against: Sequence[RunSummary]
) -> list[Contribution]:
    """The values behind a metric: for an accuracy one a seed, for a count at most one.

    Args:
        runs: of the cell's experiment, in any state.
        against: of the experiment that a change is counted from.
    """
    finished = [run for run in runs if run.state is State.FINISHED]
    if metric == "top1":
        return [Contribution(r.best_top1, (r,)) for r in finished if r.best_top1 is not None]
    if metric == "top1_last":
        return [Contribution(r.last_top1, (r,)) for r in finished if r.last_top1 is not None]
    if metric == "top1_drop":
        return _drops(finished, against)
    return _counts(metric, runs, against)


def _drops(finished: Sequence[RunSummary], against: Sequence[RunSummary]) -> list[Contribution]:
    before = {run.seed: run for run in against if run.state is State.FINISHED}
    pairs = [(before[run.seed], run) for run in finished if run.seed in before]
    return [
        Contribution(whole.best_top1 - run.best_top1, (run,), (whole,))
        for whole, run in pairs
        if whole.best_top1 is not None and run.best_top1 is not None
    ]


def _counts(
    metric: str, runs: Sequence[RunSummary], against: Sequence[RunSummary]
) -> list[Contribution]:
    ours, counted = _parameters(runs)
    theirs, compared = _parameters(against)
    if metric == "params" and ours is not None:
        return [Contribution(ours / 1e6, counted)]
    if metric in SIGN_OF_CHANGE and ours is not None and theirs is not None:
        change = SIGN_OF_CHANGE[metric] * (ours - theirs) / 1e6
        return [Contribution(change, counted, compared)]
    return []


def _parameters(runs: Sequence[RunSummary]) -> tuple[int | None, tuple[RunSummary, ...]]:
    """#P, and the runs with a result that have it."""
    counted = [run for run in runs if run.state in DONE and run.parameters is not None]
    if not counted:
        return None, ()
    parameters = counted[0].parameters
    return parameters, tuple(run for run in counted if run.parameters == parameters)
