"""Learning curves: test accuracy by epoch, or training loss until it diverges."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from dia_repro.artifacts.learning import Learning, LearningPanel, NetworkLines
from dia_repro.rendering import images
from dia_repro.rendering.grid import conditions_of
from dia_repro.rendering.images import CONTEXT, Look, looks
from dia_repro.rendering.marks import mark_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Gap = tuple[float, float, Literal["left", "right"]]  # width, position and alignment of a text
ACCURACY = "test_top1"
WORDS = {ACCURACY: "Learning curves", "train_loss": "Training loss"}
AXIS = {ACCURACY: "accuracy (%)", "train_loss": "training loss"}
PANEL_INCHES, WITH_LIST_INCHES = 1.2, 1.45
THIN, THICK, CROSS, HOLLOW = 0.6, 1.5, 3.0, 5.5  # points
MOST_THIN = 12  # lines of seeds that an eye can follow
BREAK = np.full((1, 2), np.nan)  # between two lines
LARGEST_PLAIN = 100  # losses from 1 up to here have ticks such as 20, not 2 × 10¹
MOST_MARKERS, TITLE_CHARACTERS = 9, 20
LATE = 0.5  # share of the epochs before which accuracies may leave a panel
# Shares of a panel's height, where divergences are listed: above losses, for they go to infinity,
# and below accuracies.
LISTED_FROM_EDGE, LISTED_APART = 0.05, 0.13
PANEL_WIDTH_POINTS, CHARACTER_POINTS = 86, 4.0


@images.style()
def draw_learning(learning: Learning) -> Figure:
    """Return a panel for each row of the table that has runs, two abreast, at a column's width.

    Axes of accuracy begin at the lowest value of the second half of the epochs, so that the last
    ones can be told apart.
    """
    from matplotlib.figure import Figure

    panels = learning.seen
    across = 1 if len(panels) == 1 else 2
    down = max(1, -(-len(panels) // across))
    inches = WITH_LIST_INCHES if _diverges(learning) else PANEL_INCHES
    figure = Figure(figsize=(images.COLUMN_INCHES, inches * down), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for number, (place, panel) in enumerate(zip(axes, panels, strict=False)):
        _set_axes(place, panel, learning)
        _draw(place, panel, learning)
        if number % across == 0:
            place.set_ylabel(f"{_evaluated_on(learning)}{AXIS[learning.measure]}")
        if number >= len(panels) - across:
            place.set_xlabel("epoch")
    for place in axes[len(panels) :]:
        place.axis("off")
    for artist in (artist for place in axes for artist in (*place.lines, *place.texts)):
        artist.set_in_layout(False)  # they stay inside
    figure.set_gid(mark_of(learning.value.specs.values(), learning.value.origin))
    label = learning.value.artifact.label
    title = f"{label}. {WORDS[learning.measure]}{conditions_of(learning.value)}"
    images.frame(figure, title, " ".join(_caption(learning)), _handles(learning))
    return figure


def _evaluated_on(learning: Learning) -> str:
    """Return the images of an accuracy: "test " or "validation "."""
    if learning.measure != ACCURACY:
        return ""
    return f"{learning.value.request.select.value} "


def _diverges(learning: Learning) -> bool:
    return any(network.divergences for panel in learning.panels for network in panel.networks)


def _set_axes(axes: Axes, panel: LearningPanel, learning: Learning) -> None:
    from matplotlib.ticker import LogFormatter, MaxNLocator

    axes.set_title("\n".join(textwrap.wrap(", ".join(panel.rows), TITLE_CHARACTERS)))
    axes.set_xlim(0, panel.epochs)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    alike = [other for other in learning.seen if other.data == panel.data]
    values = np.concatenate([_values(other) for other in alike])
    listed = max(sum(bool(n.divergences) for n in other.networks) for other in alike)
    share = 1 - (LISTED_FROM_EDGE + LISTED_APART * listed if listed else 0.0)
    if learning.measure == ACCURACY:
        late = np.concatenate([_values(other, panel.epochs * LATE) for other in alike])
        late = late if len(late) else values
        low, high = (late.min(), values.max()) if len(late) else (0.0, 100.0)
        span = max(high - low, 1.0)
        axes.set_ylim(high - span / share - 0.06 * span, high + 0.06 * span)
        ticks = MaxNLocator(4).tick_values(low, high)
        # No ticks next to the list, where there is no accuracy.
        axes.set_yticks([tick for tick in ticks if low - 0.05 * span <= tick <= high + 0.05 * span])
    else:
        powers = np.log10(values[values > 0])
        low, high = (powers.min() - 0.1, powers.max()) if len(powers) else (-1.1, 1.0)
        axes.set_yscale("log")
        top = low + max(high - low, 0.5) / share
        axes.set_ylim(10**low, 10**top)
        if low >= 0 and 10**top < LARGEST_PLAIN:
            axes.yaxis.set_major_formatter(LogFormatter())
            axes.yaxis.set_minor_formatter(LogFormatter())


def _values(panel: LearningPanel, after: float = 0.0) -> NDArray[np.float64]:
    """Return the values of all lines of a panel after an epoch."""
    lines = [line.points for network in panel.networks for line in network.lines]
    return np.concatenate([*(line[line[:, 0] > after, 1] for line in lines), np.empty(0)])


def _draw(axes: Axes, panel: LearningPanel, learning: Learning) -> None:
    below = learning.measure == ACCURACY
    if len(panel.networks) == 1:
        others = (other for other in learning.seen if other is not panel)
        for network in (network for other in others for network in other.networks):
            if {network.dataset} == panel.data and len(network.mean):
                axes.plot(*network.mean.T, color=CONTEXT, linewidth=1.0, zorder=1)
    listed = 0
    for network, look in zip(panel.networks, _looks(panel), strict=True):
        _draw_network(axes, network, look)
        if network.divergences:
            height = LISTED_FROM_EDGE + LISTED_APART * listed
            _list_divergences(axes, network, look, height if below else 1 - height)
            listed += 1
    if not len(_values(panel)):
        axes.text(
            0.5,
            0.7 if below else 0.3,
            "no epoch completed",
            transform=axes.transAxes,
            ha="center",
            va="center",
            color="0.4",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )


def _draw_network(axes: Axes, network: NetworkLines, look: Look) -> None:
    points = [line.points for line in network.lines]
    if len(points) > MOST_THIN:
        when, values = np.concatenate(points).T
        epochs, group = np.unique(when, return_inverse=True)
        least, most = np.full((2, len(epochs)), np.nan)
        np.fmin.at(least, group, values)
        np.fmax.at(most, group, values)
        axes.fill_between(epochs, least, most, color=look.colour, alpha=0.25, lw=0, zorder=2)
    elif len(points) > 1 or (points and not network.finished):
        # One line with gaps, not one for each seed: matplotlib takes its time for every line.
        thin = np.concatenate([part for line in points for part in (line, BREAK)])
        axes.plot(*thin.T, color=look.colour, linewidth=THIN, alpha=0.7, zorder=2)
    axes.plot(
        *network.mean.T,
        color=look.colour,
        linestyle=look.line,
        linewidth=THICK,
        marker=look.marker,
        markersize=2.8,
        markevery=max(1, len(network.mean) // MOST_MARKERS),
        zorder=3,
    )


def _list_divergences(axes: Axes, network: NetworkLines, look: Look, height: float) -> None:
    """Draw a crossed marker where each run diverged, in a line of the panel with the steps.

    The hollow marker below the cross is the network's: colours alone do not tell networks apart.
    """
    y = axes.transData.inverted().transform(axes.transAxes.transform((0, height)))[1]
    for line in network.lines:
        if line.divergence is not None:
            moment = line.divergence.moment
            if len(line.points):
                rise = np.array([line.points[-1], (moment, y)])
                axes.plot(*rise.T, color=look.colour, linewidth=THIN, linestyle=":")
            for marker, size, width in ((look.marker, HOLLOW, 0.8), ("x", CROSS, 1.0)):
                axes.plot(
                    [moment],
                    [y],
                    color=look.colour,
                    marker=marker,
                    markersize=size,
                    markeredgewidth=width,
                    markerfacecolor="white",
                    clip_on=False,
                    zorder=4,
                )
    text, (_, x, align) = _fitting(axes, network)
    offset = (6 if align == "left" else -6), 0
    axes.annotate(text, (x, y), xytext=offset, textcoords="offset points", ha=align, va="center")


def _fitting(axes: Axes, network: NetworkLines) -> tuple[str, Gap]:
    """Return words on divergences that fit into a gap between the crosses, and the gap."""
    moments = sorted(divergence.moment for divergence in network.divergences)
    end = axes.get_xlim()[1]
    gaps: list[Gap] = [(end - moments[-1], moments[-1], "left"), (moments[0], moments[0], "right")]
    gaps += [(b - a, a, "left") for a, b in pairwise(moments)]
    words = _divergence_words(network)
    for text in words:
        needed = len(text) * CHARACTER_POINTS + 2 * CROSS
        for gap in gaps:
            # Panels have all but the same width, of which nothing is known before the layout.
            if gap[0] * (PANEL_WIDTH_POINTS / end) > needed:
                return text, gap
    return words[-1], max(gaps)


def _divergence_words(network: NetworkLines) -> list[str]:
    """Return how many of a network's runs diverged, and when, in fewer and fewer words."""
    found = network.divergences
    count = f"{len(found)}/{len(network.lines)}"
    word, numbers = "epoch", [divergence.epoch for divergence in found]
    steps = [divergence.step for divergence in found if divergence.step is not None]
    if set(numbers) == {1} and len(steps) == len(found):
        word, numbers = "step", steps
    low, high = min(numbers), max(numbers)
    when = f"{word} {low}" if low == high else f"{word}s {low}–{high}"
    return [f"{count}, {when}", count]


def _looks(panel: LearningPanel) -> list[Look]:
    # Where a panel has one network, it is the row's.
    rows_tell = len(panel.networks) == 1
    return looks([(n.row, *n.columns) if rows_tell else n.columns for n in panel.networks])


def _handles(learning: Learning) -> list[Line2D]:
    entries: dict[str, Look] = {}
    headings = learning.value.artifact.headings
    for panel in learning.seen:
        if len(panel.networks) > 1:
            for network, look in zip(panel.networks, _looks(panel), strict=True):
                label = ", ".join(headings.get(column, column) for column in network.columns)
                entries.setdefault(label, look)
    return [
        look.handle(label, linestyle=look.line, markersize=3) for label, look in entries.items()
    ]


def _caption(learning: Learning) -> Iterator[str]:
    networks = [network for panel in learning.panels for network in panel.networks]
    counts = [network.finished for network in networks if network.finished]
    most = max(len(network.lines) for network in networks)
    if not counts:
        yield "No run has finished."
    elif max(counts) == most == 1:
        yield "One seed each."
    else:
        span = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)}–{max(counts)}"
        crowded = most > MOST_THIN
        seeds = f"Shade: span of seeds, where over {MOST_THIN}" if crowded else "Thin: one seed"
        yield f"{seeds}; thick: mean of those that finished ({span})."
    if learning.value.seeds.named:
        yield f"{learning.value.seeds.words.capitalize()}."
    if all(len(panel.networks) == 1 for panel in learning.panels) and len(counts) > 1:
        yield "Grey: the other rows."
    if learning.measure == ACCURACY and counts:
        yield "Axes begin at the lowest accuracy of the second half of the epochs."
    if _diverges(learning):
        yield "Crossed markers: runs whose loss was no longer finite there."
    missing = [row for panel in learning.panels if not panel.seen for row in panel.rows]
    if missing:
        yield f"No runs: {', '.join(missing)}."
