"""Accuracy of each run without BN against the initial scale of its residual branches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dia_repro.artifacts.controls import initial_scale
from dia_repro.artifacts.explanation import Experiment, Findings
from dia_repro.artifacts.paper import COLUMNS, DIANET
from dia_repro.claims.unpaired import ABOVE_GUESSING
from dia_repro.rendering import images
from dia_repro.rendering.grid import conditions_of
from dia_repro.rendering.marks import mark_of
from dia_repro.results.queries import RunSummary
from dia_repro.results.schema import DONE, State

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE_INCHES, EDGE_INCHES = 0.15, 0.45  # height of a network; of a panel's title and axis
MARKER = 4.0  # points
DIVERGED, ROOM = -8.0, 15.0  # position of runs that diverged, and room for them, in percent


@images.style()
def draw_initial_scale(found: Findings) -> Figure:
    """Return a panel for each depth, networks with runs in the order of their initial scale.

    Args:
        found: what the database has on the networks without BN and their controls, with runs of
            a control: see `scaled`.
    """
    panels = scaled(found)
    figure, axes = images.column(
        [EDGE_INCHES + LINE_INCHES * len(rows) for rows in panels.values()]
    )
    for place, (depth, rows) in zip(axes, panels.items(), strict=True):
        _draw(place, depth, rows)
    chosen = found.value.request.select.accuracy
    accuracy = chosen if found.value.validated else "test accuracy of the last epoch"
    axes[-1].set_xlabel(f"{accuracy} (%)")
    figure.set_gid(mark_of(found.value.specs.values(), found.value.origin))
    title = f"Without BN: initial scale of the branches{conditions_of(found.value)}"
    caption = (
        "In brackets: what a branch is multiplied by at the start. A point is a run, "
        f"{found.value.seeds.words}; ×: it diverged. Dotted: {ABOVE_GUESSING:g} points above "
        "guessing, from where on it counts as trained."
    )
    images.frame(figure, title, caption)
    return figure


def scaled(found: Findings) -> dict[str, list[Experiment]]:
    """Return the networks with runs by depth, without depths that have no run of a control.

    Networks whose initial scale is not known, e.g. with attention of a user's own, are left out.
    """
    by_depth: dict[str, list[Experiment]] = {}
    for (_, depth), experiment in found.experiments.items():
        if _runs(experiment) and initial_scale(experiment.spec.model.attention) is not None:
            by_depth.setdefault(depth, []).append(experiment)
    return {
        depth: rows
        for depth, rows in by_depth.items()
        if {row.entry.row for row in rows} - set(COLUMNS)
    }


def _runs(experiment: Experiment) -> list[RunSummary]:
    return [behind.run for behind in experiment.runs if behind.run.state in DONE]


def _draw(axes: Axes, depth: str, rows: Sequence[Experiment]) -> None:
    by_scale = [(initial_scale(row.spec.model.attention) or 0.0, row) for row in rows]
    by_scale.sort(key=lambda pair: -pair[0])
    labels = []
    for height, (scale, row) in enumerate(by_scale):
        labels.append(f"{row.entry.row} ({scale:.2g})")
        colour = images.LOOKS[DIANET].colour if row.entry.row == DIANET else images.BLACK
        runs = _runs(row)
        finished = [run.final_top1 for run in runs if run.state is State.FINISHED]
        trained = [top1 for top1 in finished if top1 is not None]
        diverged = len(runs) - len(finished)
        axes.plot(trained, [height] * len(trained), "o", color=colour, markersize=MARKER, alpha=0.7)
        # Side by side, as they would lie upon each other.
        apart = min(4.0, ROOM / max(1, diverged))
        crosses = [DIVERGED + apart * (number - (diverged - 1) / 2) for number in range(diverged)]
        axes.plot(crosses, [height] * diverged, "x", color=colour, markersize=MARKER)
    axes.set_title(depth, loc="left")
    axes.set_yticks(range(len(rows)), labels)
    axes.set_xlim(DIVERGED - 10, 102)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.axvline(0, color=images.CONTEXT, linewidth=0.8, zorder=0)
    trains = 100 / rows[0].spec.data.classes + ABOVE_GUESSING
    axes.axvline(trains, color=images.CONTEXT, linewidth=0.8, linestyle=":", zorder=0)
    axes.set_xticks([0, 25, 50, 75, 100])
