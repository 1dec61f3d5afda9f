"""Metrics of cells: what each takes from a run, and the cell that its values make up."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from dia_repro.experiments.names import Protocol
from dia_repro.experiments.spec import Spec
from dia_repro.paper.facts import PaperCell
from dia_repro.results.histories import History
from dia_repro.results.queries import RunSummary
from dia_repro.results.schema import DONE, State

Runs = Sequence[RunSummary]


@dataclass(frozen=True)
class Metric:
    """A metric of cells.

    Attributes:
        how: how a cell's value is computed; `{other}` is the network that changes are counted from.
        value: test accuracy of a run in %, or its number of parameters.
        epoch: epoch of the accuracy, counted from 1; None for a count, the same for all seeds.
        sign: sign of a difference from another network's value; 0 where it is no difference.
        scale: number that values are divided by to be in the cell's unit.
    """

    how: str
    value: Callable[[RunSummary], float | None]
    epoch: Callable[[History], int | None] | None = None
    sign: int = 0
    scale: float = 1


_BEST = attrgetter("best_top1"), attrgetter("best_epoch")
_LAST = attrgetter("last_top1"), attrgetter("last_epoch")


def _count(how: str, sign: int = 0) -> Metric:
    return Metric(
        how, lambda run: run.parameters if run.state in DONE else None, sign=sign, scale=1e6
    )


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

# What they are where images are held out for validation: the accuracy of the chosen epoch.
VALIDATED = {
    "top1": "The test accuracy, read once, of the epoch with the highest accuracy on the images "
    "held out, of a finished run, averaged over seeds",
    "top1_drop": "The test accuracy, read once, of the epoch of {other} with the highest accuracy "
    "on the images held out, minus this network's with the same seed, averaged over seeds",
}


@dataclass(frozen=True)
class Cell(PaperCell):
    """One value of a table: the paper's, and ours with the runs behind it.

    Attributes:
        paper: nan for a divergence, None where the paper prints nothing.
        ours_mean, ours_std: mean and standard deviation (n-1 in the denominator) over seeds; the
            mean is nan if every run diverged. Of `top1`, the best over epochs, as the authors
            report it, or of the epoch that did best on images held out for validation.
        n: number of values in the mean; `n_expected` of them, 1 for a count, would be complete.
        diverged: number of runs that ended in a loss that is not finite.
        status: `complete`, `partial`, `diverged` or `missing`.
        runs: uids of the runs in the mean and of those that diverged, by seed, spaces between.
            Numbers of runs change when databases are merged.
        compared_runs: the same of the runs that a change is counted from.
        used: numbers of the runs in the mean and of those that a change is counted from.
        how: sentence on how the value is computed.
        origin: whose runs they are; empty for ours.
    """

    paper: float | None
    ours_mean: float | None
    ours_std: float | None
    n: int
    n_expected: int
    diverged: int
    status: str
    protocol: str
    dataset: str
    image_size: int
    epochs: int
    lr: float
    precision: str
    spec_id: str
    runs: str
    compared_runs: str
    used: frozenset[int]
    how: str
    origin: str = ""


def has_result(cell: Cell) -> bool:
    """Return whether a run has given the cell's accuracy, or diverged."""
    return cell.metric.startswith("top1") and bool(cell.n or cell.diverged)


def make_cell(
    printed: PaperCell,
    spec: Spec,
    protocol: Protocol,
    expected: int,
    runs: Runs,
    compared: Runs,
    other: str,
) -> Cell:
    """Return a cell from the runs of its experiment, in any state.

    Args:
        expected: number of seeds.
        compared: runs of the experiment that a change is counted from.
        other: name of that experiment's network.
    """
    metric = METRICS[printed.metric]
    if spec.data.validation is not None:
        metric = replace(metric, how=VALIDATED.get(printed.metric, metric.how))
    behind = _contributions(metric, runs, compared)
    values = [value for value, _, _ in behind]
    ours = [run for _, own, _ in behind for run in own]
    theirs = [run for _, _, others in behind for run in others]
    is_accuracy = metric.epoch is not None
    expected = expected if is_accuracy else 1
    diverged = [run for run in runs if is_accuracy and run.state is State.DIVERGED]
    return Cell(
        **vars(printed),
        paper=printed.value if printed.printed else None,
        ours_mean=_mean(values, diverged),
        ours_std=statistics.stdev(values) if is_accuracy and len(values) > 1 else None,
        n=len(values),
        n_expected=expected,
        diverged=len(diverged),
        status=_status(len(values), expected, diverged),
        protocol=protocol.value,
        dataset=spec.data.dataset,
        image_size=spec.data.image_size,
        epochs=spec.recipe.epochs,
        lr=spec.recipe.lr,
        precision=spec.precision,
        spec_id=spec.spec_id,
        runs=_uids([*ours, *diverged]),
        compared_runs=_uids(theirs),
        used=frozenset(run.id for run in (*ours, *theirs)),
        how=_how(metric, other, len(diverged)),
    )


def _contributions(metric: Metric, runs: Runs, compared: Runs) -> list[tuple[float, Runs, Runs]]:
    """Return the values behind a cell, in its unit, each with its runs and those compared.

    An accuracy has a value for each seed, paired by seed where it is a change; a count has at most
    one, of all runs that have it.
    """
    ours, theirs = _by_seed(metric, runs), _by_seed(metric, compared)
    if not metric.sign:
        return [(value / metric.scale, own, ()) for value, own in ours.values()]
    return [
        (metric.sign * (value - theirs[seed][0]) / metric.scale, own, theirs[seed][1])
        for seed, (value, own) in ours.items()
        if seed in theirs
    ]


def _by_seed(metric: Metric, runs: Runs) -> dict[int | None, tuple[float, list[RunSummary]]]:
    """Return values with their runs: of finished runs by seed, or a count under None."""
    values: dict[int | None, tuple[float, list[RunSummary]]] = {}
    for run in runs:
        value = metric.value(run)
        if value is not None and (metric.epoch is None or run.state is State.FINISHED):
            first, same = values.setdefault(run.seed if metric.epoch else None, (value, []))
            if value == first:
                same.append(run)
    return values


def _uids(runs: Iterable[RunSummary]) -> str:
    # By seed: the order of their numbers is another one after a merge.
    return " ".join(dict.fromkeys(run.uid for run in sorted(runs, key=lambda run: run.seed)))


def _mean(values: Sequence[float], diverged: Runs) -> float | None:
    if values:
        return statistics.fmean(values)
    return math.nan if diverged else None


def _status(n: int, expected: int, diverged: Runs) -> str:
    if diverged:
        return "diverged"
    if not n:
        return "missing"
    return "complete" if n >= expected else "partial"


def _how(metric: Metric, other: str, diverged: int) -> str:
    text = metric.how.format(other=other)
    if not diverged:
        return f"{text}."
    runs = "1 diverged run is" if diverged == 1 else f"{diverged} diverged runs are"
    return f"{text}; {runs} not in the mean."
