"""Figure 6: distributions of gradients, as curves over powers of ten."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dia_repro.analysis.gradients import RecordedRun, grouped, shares_by_decade
from dia_repro.artifacts.paper import FIGURE6
from dia_repro.artifacts.table import TableArtifact
from dia_repro.experiments.names import BINS_PER_DECADE
from dia_repro.rendering import images
from dia_repro.rendering.images import Look, looks
from dia_repro.rendering.marks import mark_of
from dia_repro.rendering.records import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

QUANTILE_FIELDS = ("q01", "q05", "q25", "q50", "q75", "q95", "q99")
RECORDED = ("count", "zeros", "not_finite", "mean", "variance")
GRADIENT_FIELDS = ("run", "network", "epochs", "stage", *RECORDED, *QUANTILE_FIELDS)
PANEL_WIDTH, PANEL_HEIGHT = 3.6, 2.4  # inches
# A bin that holds less of all elements than this is not worth drawing.
LEAST_SHARE = 5e-4


@images.style()
def draw_gradients(
    found: Sequence[RecordedRun], artifact: TableArtifact = FIGURE6, *, apart: bool = False
) -> Figure:
    """Return Figure 6: a row for the first and for the last record, a column for each stage.

    Args:
        apart: whether each run has a curve; otherwise there is their mean,
            in the range of all.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    last = _listed(f"{run.moments[1]}" for run in found)
    moments = ("at initialisation", f"after {last} epoch{'' if last == '1' else 's'}")
    across = min(len(stages) for run in found for stages in run.records.values())
    groups = grouped(found, apart=apart)
    styles = looks([(label, runs[0].label) for label, runs in groups.items()])
    size = PANEL_WIDTH * across, PANEL_HEIGHT * len(moments)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(moments), across, squeeze=False, sharex=True, sharey=True)
    seen: list[float] = []
    for (i, j), place in np.ndenumerate(axes):
        place.set_title(f"stage {j + 1}, {moments[i]}")
        for (label, runs), look in zip(groups.items(), styles, strict=True):
            records = [run.records[run.moments[i]][j] for run in runs]
            seen += _draw(place, records, label, look)
    for place in axes[:, 0]:
        place.set_ylabel("share of elements a decade")
    for place in axes[-1]:
        place.set_xlabel("|∂loss/∂output|")
    first = axes[0, 0]
    first.set_xlim(np.floor(min(seen, default=-1)), np.ceil(max(seen, default=1)))
    first.set_ylim(bottom=0)
    first.xaxis.set_major_locator(MaxNLocator(integer=True))
    first.xaxis.set_major_formatter(lambda power, _: f"$10^{{{power:.0f}}}$")
    curves = [line for line in first.get_lines() if line.get_label() in groups]
    figure.set_gid(mark_of((run.spec for run in found), found[0].run.summary.origin))
    images.frame(figure, _title(found, artifact), _caption(found), curves)
    return figure


def _draw(axes: Axes, records: Sequence[dict[str, Any]], label: str, look: Look) -> Iterable[float]:
    """Draw the mean of distributions in their range; return the powers of ten that are seen."""
    each = [shares_by_decade(record) for record in records]
    middles, shares = each[0][0], np.array([found for _, found in each])
    colour, line = look.colour, look.line
    axes.plot(middles, shares.mean(0), label=label, linewidth=1.2, color=colour, linestyle=line)
    lowest = shares.min(0) if records[1:] else 0.0
    axes.fill_between(middles, lowest, shares.max(0), color=colour, alpha=0.15, linewidth=0)
    means = [record["mean"] for record in records]
    if all(0 < mean < np.inf for mean in means):
        middle = np.log10(means).mean()
        axes.axvline(middle, linewidth=0.8, color=colour, linestyle=line)
    return list(middles[shares.max(0) > LEAST_SHARE * BINS_PER_DECADE])


def _title(found: Sequence[RecordedRun], artifact: TableArtifact) -> str:
    specs = [run.spec for run in found]
    return (
        f"{artifact.label}. Gradients without skip connections: "
        f"{_listed(spec.model.backbone.label for spec in specs)} "
        f"on {_listed(spec.data.label for spec in specs)}, "
        f"{_listed(str(spec.recipe.epochs) for spec in specs)} epochs"
        f"{artifact.departure(specs)}"
    )


def _caption(found: Sequence[RecordedRun]) -> str:
    runs = "; ".join(
        f"{', '.join(str(run.run.summary.id) for run in same)} ({same[0].label})"
        for same in grouped(found).values()
    )
    several = len(found) > len({run.label for run in found})
    of_runs = "curves: means over runs, in the range of all; " if several else ""
    return (
        "Absolute value of the gradient of the loss at every element of a stage's output tensor, "
        f"for the first batch of an epoch before it moves the weights; {of_runs}vertical lines: "
        f"means{', geometric over runs' if several else ''}. "
        f"Runs {runs}, {_listed(run.spec.precision for run in found)}."
    )


def _listed(texts: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(texts))


def gradient_records(found: Sequence[RecordedRun]) -> Iterator[Record]:
    """Yield a record for each run, moment and stage, with `GRADIENT_FIELDS`."""
    for run in found:
        for epochs, stages in run.records.items():
            for stage, record in enumerate(stages, start=1):
                quantiles = record["quantiles"] or [None] * len(QUANTILE_FIELDS)
                yield {
                    "run": run.run.summary.id,
                    "network": run.label,
                    "epochs": epochs,
                    "stage": stage,
                    **{name: record[name] for name in RECORDED},
                    **dict(zip(QUANTILE_FIELDS, quantiles, strict=True)),
                }
