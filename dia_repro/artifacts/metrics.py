"""Metrics of cells: what each takes from a run, and the runs that a cell's mean comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from dia_repro.results.histories import History
from dia_repro.results.queries import RunSummary
from dia_repro.results.schema import DONE, State


@dataclass(frozen=True)
class Metric:
    """A metric of cells.

    Attributes:
        how: how a cell's value is computed; `{other}` is the network that changes are counted from.
        value: of a run: a test accuracy in %, or a number of parameters.
        epoch: epoch of the accuracy, counted from 1; None for a count, the same for all seeds.
        sign: of a difference from another network's value; 0 where it is no difference.
        scale: number that values are divided by to be in the cell's unit.
    """

    how: str
    value: Callable[[RunSummary], float | None]
    epoch: Callable[[History], int | None] | None = None
    sign: int = 0
    scale: float = 1


_BEST = attrgetter("best_top1"), attrgetter("best_epoch")
_LAST = attrgetter("last_top1"), attrgetter("last_epoch")


def _parameters(run: RunSummary) -> int | None:
    return run.parameters if run.state in DONE else None


def _count(how: str, sign: int = 0) -> Metric:
    return Metric(how, _parameters, sign=sign, scale=1e6)


METRICS = {
    "params": _count("Parameters in millions, counted on the network that was trained"),
    "params_delta": _count("Parameters in millions, minus those of {other}", 1),
    "params_drop": _count("Parameters of {other} in millions, minus this network's", -1),
    "top1": Metric(
        "The highest test accuracy over the epochs of a finished run, averaged over seeds", *_BEST
    ),
    "top1_last": Metric(
        "The test accuracy after the last epoch of a finished run, averaged over seeds", *_LAST
    ),
    "top1_drop": Metric(
        "The highest test accuracy over epochs of {other}, minus this network's with the same "
        "seed, averaged over seeds",
        *_BEST,
        sign=-1,
    ),
}


@dataclass(frozen=True)
class Contribution:
    """One value of those whose mean a cell shows.

    Attributes:
        value: in the cell's unit.
        runs: runs of the cell's own experiment with this value; several for a count.
        compared: runs of the experiment that the value is a difference from.
    """

    value: float
    runs: tuple[RunSummary, ...]
    compared: tuple[RunSummary, ...] = ()


def contributions(
    name: str, runs: Iterable[RunSummary], against: Iterable[RunSummary]
) -> list[Contribution]:
    """Return the values behind a metric: for an accuracy one a seed, for a count at most one.

    Args:
        runs: runs of the cell's experiment, in any state.
        against: runs of the experiment that a change is counted from.
    """
    metric = METRICS[name]
    ours, theirs = _values(metric, runs), _values(metric, against)
    if not metric.sign:
        return [Contribution(v / metric.scale, tuple(of)) for v, of in ours.values()]
    return [
        Contribution(
            metric.sign * (value - theirs[key][0]) / metric.scale, tuple(of), tuple(theirs[key][1])
        )
        for key, (value, of) in ours.items()
        if key in theirs
    ]


def _values(
    metric: Metric, runs: Iterable[RunSummary]
) -> dict[int | None, tuple[float, Sequence[RunSummary]]]:
    """Return values with their runs: of finished runs by seed, or a count under None."""
    values: dict[int | None, tuple[float, list[RunSummary]]] = {}
    for run in runs:
        value = metric.value(run)
        if value is not None and (metric.epoch is None or run.state is State.FINISHED):
            first, same = values.setdefault(run.seed if metric.epoch else None, (value, []))
            if value == first:
                same.append(run)
    return dict(values)
