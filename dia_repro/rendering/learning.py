"""Learning curves: test accuracy by epoch, or training loss until it diverges."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from dia_repro.artifacts.learning import Learning, LearningPanel, NetworkLines
from dia_repro.rendering import images
from dia_repro.rendering.grid import conditions_of
from dia_repro.rendering.images import CONTEXT, Look, looks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Side = Literal["left", "right"]
ACCURACY = "test_top1"
WORDS = {ACCURACY: "Learning curves", "train_loss": "Training loss"}
AXIS = {ACCURACY: "test accuracy (%)", "train_loss": "training loss"}
PANEL_INCHES, WITH_LIST_INCHES = 1.2, 1.45
THIN, THICK, CROSS = 0.6, 1.5, 4.0  # points
MOST_THIN = 12  # lines of seeds that an eye can follow
GAP = np.full((1, 2), np.nan)
LARGEST_PLAIN = 100  # losses from 1 up to here have ticks such as 20, not 2 × 10¹
MOST_MARKERS, TITLE_CHARACTERS = 9, 20
# Of a panel's height, where divergences are listed: above losses, for they go to infinity, and
# below accuracies.
LISTED_FROM_EDGE, LISTED_APART = 0.05, 0.13
PANEL_WIDTH_POINTS, CHARACTER_POINTS = 86, 4.0


def draw_learning(learning: Learning) -> Figure:
    """Return a panel for each row of the table that has runs, two abreast, at a column's width."""
    from matplotlib.figure import Figure

    panels = [panel for panel in learning.panels if panel.seen]
    with images.style():
        down = max(1, -(-len(panels) // 2))
        height = WITH_LIST_INCHES if _diverges(panels) else PANEL_INCHES
        inches = height * down
        figure = Figure(figsize=(images.COLUMN_INCHES, inches), layout="constrained")
        axes = list(figure.subplots(down, 2, squeeze=False).flat)
        for number, (place, panel) in enumerate(zip(axes, panels, strict=False)):
            _set_axes(place, panel, panels, learning)
            _draw(place, panel, panels, learning)
            if number % 2 == 0:
                place.set_ylabel(AXIS[learning.measure])
            if number >= len(panels) - 2:
                place.set_xlabel("epoch")
        for place in axes[len(panels) :]:
            place.axis("off")
        for artist in (one for place in axes for one in (*place.lines, *place.texts)):
            artist.set_in_layout(False)  # they stay inside
        label = learning.value.artifact.label
        title = f"{label}. {WORDS[learning.measure]}{conditions_of(learning.value)}"
        images.frame(figure, inches, title, " ".join(_caption(learning)), _handles(panels))
    return figure


def _diverges(panels: Sequence[LearningPanel]) -> bool:
    return any(one.divergences for panel in panels for one in panel.networks)


def _set_axes(
    axes: Axes, panel: LearningPanel, panels: Sequence[LearningPanel], learning: Learning
) -> None:
    from matplotlib.ticker import LogFormatter, MaxNLocator

    axes.set_title("\n".join(textwrap.wrap(", ".join(panel.rows), TITLE_CHARACTERS)))
    axes.set_xlim(0, panel.epochs)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    data = {one.dataset for one in panel.networks}
    alike = [p for p in panels if {one.dataset for one in p.networks} == data]
    figures = np.concatenate([_figures(one) for one in alike])
    listed = max(sum(1 for one in p.networks if one.divergences) for p in alike)
    share = 1 - (LISTED_FROM_EDGE + LISTED_APART * listed if listed else 0.0)
    if learning.measure == ACCURACY:
        low, high = (figures.min(), figures.max()) if len(figures) else (0.0, 100.0)
        span = max(high - low, 1.0)
        axes.set_ylim(high - span / share - 0.06 * span, high + 0.06 * span)
        ticks = MaxNLocator(4).tick_values(low, high)
        # No ticks beside the list, where there is no accuracy.
        axes.set_yticks([tick for tick in ticks if low - 0.05 * span <= tick <= high + 0.05 * span])
    else:
        powers = np.log10(figures[figures > 0])
        low, high = (powers.min() - 0.1, powers.max()) if len(powers) else (-1.1, 1.0)
        axes.set_yscale("log")
        top = low + max(high - low, 0.5) / share
        axes.set_ylim(10**low, 10**top)
        if low >= 0 and 10**top < LARGEST_PLAIN:
            axes.yaxis.set_major_formatter(LogFormatter())
            axes.yaxis.set_minor_formatter(LogFormatter())


def _figures(panel: LearningPanel) -> NDArray[np.float64]:
    lines = [line.points[:, 1] for one in panel.networks for line in one.lines]
    return np.concatenate([*lines, np.empty(0)])


def _draw(
    axes: Axes, panel: LearningPanel, panels: Sequence[LearningPanel], learning: Learning
) -> None:
    if len(panel.networks) == 1:
        for other in _other_rows(panel, panels):
            axes.plot(*other.mean.T, color=CONTEXT, linewidth=1.0, zorder=1)
    listed = 0
    for one, look in zip(panel.networks, _looks(panel), strict=True):
        _draw_network(axes, one, look)
        if one.divergences:
            height = LISTED_FROM_EDGE + LISTED_APART * listed
            height = height if learning.measure == ACCURACY else 1 - height
            _list_divergences(axes, one, look, height)
            listed += 1
    if not len(_figures(panel)):
        axes.text(
            0.5,
            0.7 if learning.measure == ACCURACY else 0.3,
            "no epoch completed",
            transform=axes.transAxes,
            ha="center",
            va="center",
            color="0.4",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )


def _draw_network(axes: Axes, one: NetworkLines, look: Look) -> None:
    if len(one.lines) > MOST_THIN:
        when, figures = np.concatenate([line.points for line in one.lines]).T
        epochs, group = np.unique(when, return_inverse=True)
        least, most = np.full((2, len(epochs)), np.nan)
        np.fmin.at(least, group, figures)
        np.fmax.at(most, group, figures)
        axes.fill_between(epochs, least, most, color=look.colour, alpha=0.25, lw=0, zorder=2)
    elif len(one.lines) > 1 or (one.lines and not one.finished):
        # One line with gaps, not one for each seed: matplotlib takes its time for every line.
        thin = np.concatenate([part for line in one.lines for part in (line.points, GAP)])
        axes.plot(*thin.T, color=look.colour, linewidth=THIN, alpha=0.7, zorder=2)
    axes.plot(
        *one.mean.T,
        color=look.colour,
        linestyle=look.line,
        linewidth=THICK,
        marker=look.marker,
        markersize=2.8,
        markevery=max(1, len(one.mean) // MOST_MARKERS),
        clip_on=False,
        zorder=3,
    )


def _list_divergences(axes: Axes, one: NetworkLines, look: Look, height: float) -> None:
    """Draw crosses where runs diverged, in a line of the panel with the steps in words."""
    y = axes.transData.inverted().transform(axes.transAxes.transform((0, height)))[1]
    for line in one.lines:
        if line.divergence is not None:
            if len(line.points):
                rise = np.array([line.points[-1], (line.divergence.moment, y)])
                axes.plot(*rise.T, color=look.colour, linewidth=THIN, linestyle=":")
            axes.plot(
                [line.divergence.moment],
                [y],
                marker="x",
                color=look.colour,
                markersize=CROSS,
                markeredgewidth=1.2,
                clip_on=False,
                zorder=4,
            )
    text, x, align = _fitting(axes, one)
    offset = {"left": 5, "right": -5}.get(align, 0)
    axes.annotate(
        text, (x, y), xytext=(offset, 0), textcoords="offset points", ha=align, va="center"
    )


def _fitting(axes: Axes, one: NetworkLines) -> tuple[str, float, Side]:
    """Return words on divergences that fit next to the crosses, their x and their side."""
    moments = sorted(divergence.moment for divergence in one.divergences)
    end = axes.get_xlim()[1]
    # Panels have all but the same width, of which nothing is known before the layout.
    in_points = PANEL_WIDTH_POINTS / end
    gaps = [(end - moments[-1], moments[-1], "left"), (moments[0], moments[0], "right")]
    gaps += [(b - a, a, "left") for a, b in pairwise(moments)]
    words = _divergence_words(one)
    for text in words:
        needed = len(text) * CHARACTER_POINTS + 2 * CROSS
        for room, x, align in gaps:
            if room * in_points > needed:
                return text, x, "left" if align == "left" else "right"
    _, x, align = max(gaps)
    return words[-1], x, "left" if align == "left" else "right"


def _divergence_words(one: NetworkLines) -> list[str]:
    """Return which network, how many of its runs, and when, in fewer and fewer words."""
    found = one.divergences
    name = "/".join(one.columns)
    count = f"{len(found)}/{len(one.lines)}"
    short = f"{name} {count}" if len(one.lines) > 1 else name
    epochs = [divergence.epoch for divergence in found]
    steps = [divergence.step for divergence in found if divergence.step is not None]
    at_once = set(epochs) == {1} and len(steps) == len(found)
    when = _span("step", steps) if at_once else _span("epoch", epochs)
    return [f"{short}, {when}", f"{count}, {when}", short, count]


def _span(word: str, numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{word} {low}" if low == high else f"{word}s {low}–{high}"


def _other_rows(panel: LearningPanel, panels: Sequence[LearningPanel]) -> Iterator[NetworkLines]:
    data = panel.networks[0].dataset
    for other in panels:
        if other is not panel:
            yield from (one for one in other.networks if one.dataset == data and len(one.mean))


def _looks(panel: LearningPanel) -> list[Look]:
    # Where a panel has one network, it is the row's.
    rows_tell = len(panel.networks) == 1
    return looks([(one.row, *one.columns) if rows_tell else one.columns for one in panel.networks])


def _handles(panels: Sequence[LearningPanel]) -> list[Line2D]:
    entries: dict[str, Look] = {}
    for panel in panels:
        if len(panel.networks) > 1:
            for one, look in zip(panel.networks, _looks(panel), strict=True):
                entries.setdefault(", ".join(one.names), look)
    return [look.handle(label, line=True, size=3) for label, look in entries.items()]


def _caption(learning: Learning) -> Iterator[str]:
    networks = [one for panel in learning.panels for one in panel.networks]
    counts = [one.finished for one in networks if one.finished]
    if not counts:
        yield "No run has finished."
    elif max(counts) == 1 and all(len(one.lines) < 2 for one in networks):
        yield "One seed each."
    else:
        span = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)}–{max(counts)}"
        crowded = max(len(one.lines) for one in networks) > MOST_THIN
        seeds = f"Shade: span of seeds, where over {MOST_THIN}" if crowded else "Thin: one seed"
        yield f"{seeds}; thick: mean of those that finished ({span})."
    if learning.value.seeds.named:
        yield f"{learning.value.seeds.words.capitalize()}."
    if all(len(panel.networks) == 1 for panel in learning.panels) and len(counts) > 1:
        yield "Grey: the other rows."
    if _diverges(learning.panels):
        yield "×: where the loss was no longer finite."
    missing = [row for panel in learning.panels if not panel.seen for row in panel.rows]
    if missing:
        yield f"No runs: {', '.join(missing)}."
