"""Accuracy against the number of parameters: the paper's points hollow, ours filled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dia_repro.artifacts.paper import COLUMNS
from dia_repro.artifacts.sizes import Mark, SizePanel, Sizes
from dia_repro.rendering import images
from dia_repro.rendering.grid import conditions_of
from dia_repro.rendering.images import CONTEXT, LOOKS
from dia_repro.rendering.marks import mark_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

# Offsets of a label from its point, in points: right and left first, where it reads best.
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
OFFSETS = [
    (across * distance, up * (distance + images.SMALL / 2))
    for distance in (4, 9, 15, 22)
    for across, up in DIRECTIONS
]
PANEL_INCHES, CROWDED_INCHES, MANY = 1.5, 2.1, 12
MARKER = 4.0  # points
DATA = {"cifar100": "CIFAR-100", "cifar10": "CIFAR-10", "imagenet": "ImageNet"}


@images.style()
def draw_sizes(sizes: Sizes) -> Figure:
    """Return a panel for each data set, one below the other, at a column's width."""
    heights = [
        CROWDED_INCHES if max(len(panel.paper), len(panel.ours)) > MANY else PANEL_INCHES
        for panel in sizes.panels
    ]
    figure, axes = images.column(heights)
    for place, panel in zip(axes, sizes.panels, strict=True):
        _draw(place, panel, comparable=sizes.comparable)
    axes[-1].set_xlabel("parameters (M)")
    title = "Accuracy against parameters, Tables 3 to 5"
    if any(panel.ours for panel in sizes.panels):
        title += conditions_of(sizes.values[0])
    handles = [LOOKS[kind].handle(kind, linestyle="none", markersize=MARKER) for kind in COLUMNS]
    specs = (spec for value in sizes.values for spec in value.specs.values())
    figure.set_gid(mark_of(specs, sizes.values[0].origin))
    images.frame(figure, title, " ".join(_caption(sizes)), handles)
    for place, panel in zip(axes, sizes.panels, strict=True):
        _label(place, panel)
    return figure


def _draw(axes: Axes, panel: SizePanel, *, comparable: bool) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    name = DATA.get(panel.data, panel.data)
    if not comparable:
        name += ", ours" if panel.ours else ", the paper's"
    axes.set_title(name, loc="left")
    axes.set_ylabel("test accuracy (%)")
    axes.set_xscale("log")
    # Lines connect the kinds of each network, which are compared with each other.
    by_network: dict[str, list[Mark]] = defaultdict(list)
    for mark in _trained(panel.paper or panel.ours):
        by_network[mark.network].append(mark)
    for marks in by_network.values():
        marks.sort(key=lambda mark: COLUMNS.index(mark.kind))
        points = [mark.parameters for mark in marks], [mark.top1 for mark in marks]
        axes.plot(*points, color=CONTEXT, linewidth=1.0, zorder=1)
    for mark in panel.paper:
        _point(axes, mark, hollow=True)
    for mark in panel.ours:
        _point(axes, mark, hollow=False)
    axes.margins(0.1, 0.22)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _trained(marks: Iterable[Mark]) -> list[Mark]:
    return [mark for mark in marks if not mark.diverged]


def _point(axes: Axes, mark: Mark, *, hollow: bool) -> None:
    look = LOOKS[mark.kind]
    if mark.diverged:  # at the bottom
        cross: dict[str, Any] = {"marker": "x", "color": look.colour, "markersize": MARKER}
        at_bottom = axes.get_xaxis_transform()
        axes.plot(mark.parameters, 0.04, transform=at_bottom, clip_on=False, **cross)
        return
    axes.errorbar(
        mark.parameters,
        mark.top1,
        yerr=mark.std,
        marker=look.marker,
        markersize=MARKER,
        markerfacecolor="white" if hollow else look.colour,
        markeredgecolor=look.colour,
        markeredgewidth=0.9,
        ecolor=look.colour,
        elinewidth=0.8,
        zorder=2 if hollow else 3,
    )


def _label(axes: Axes, panel: SizePanel) -> None:
    """Write the networks' names, each at its most accurate point."""
    from matplotlib.transforms import Bbox

    best: dict[str, Mark] = {}
    for mark in _trained(panel.paper or panel.ours):
        if mark.top1 > best.get(mark.network, mark).top1 - 1e-9:
            best[mark.network] = mark
    shown = _trained((*panel.paper, *panel.ours))
    positions = axes.transData.transform([(mark.parameters, mark.top1) for mark in shown])
    figure = axes.get_figure(root=True)
    radius = 0.7 * MARKER * (figure.dpi if figure else 100) / images.POINTS_PER_INCH
    taken = [Bbox.from_extents(x, y, x, y).padded(radius) for x, y in positions]
    for name, mark in best.items():
        label = axes.annotate(
            name.rpartition(" ")[2],  # Table 4's networks are next to that with r = 4
            (mark.parameters, mark.top1),
            xytext=(0, 0),
            textcoords="offset points",
            va="center",
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "0.5", "shrinkB": MARKER},
            zorder=4,
        )
        taken.append(place_label(axes, label, taken))


def place_label(axes: Axes, label: Annotation, taken: Sequence[Bbox]) -> Bbox:
    """Move a label to the nearest free position around its point, else where it hides least.

    The layout has to be settled, and the limits of the axes.

    Args:
        taken: areas that it should not hide, in pixels.

    Returns:
        The label's area, in pixels.
    """
    whole = axes.get_window_extent()
    # Without its line, which may hide anything, and takes most of the time to measure.
    line = label.arrowprops, label.arrow_patch
    label.arrowprops = label.arrow_patch = None

    def moved(offset: tuple[float, float]) -> Bbox:
        across, _ = offset
        label.set(position=offset, ha="left" if across > 0 else "right" if across else "center")
        return label.get_window_extent()

    def cost(offset: tuple[float, float]) -> float:
        box = moved(offset)
        outside = box.width * box.height - _overlap(box, whole)
        return sum(_overlap(box, other) for other in taken) + 10 * outside

    box = moved(min(OFFSETS, key=cost))
    label.arrowprops, label.arrow_patch = line
    return box


def _overlap(box: Bbox, other: Bbox) -> float:
    """Return the area that two boxes share."""
    across = min(box.x1, other.x1) - max(box.x0, other.x0)
    up = min(box.y1, other.y1) - max(box.y0, other.y0)
    return across * up if across > 0 and up > 0 else 0.0


def _caption(sizes: Sizes) -> Iterator[str]:
    marks = [mark for panel in sizes.panels for mark in panel.ours]
    yield "Hollow: the paper."
    if not marks:
        yield "No runs of ours yet."
        return
    counts = [mark.n for mark in marks if mark.n]
    if counts:
        low, high = min(counts), max(counts)
        seeds = f"{low} seed" if low == high == 1 else f"{high} seeds, ± standard deviation"
        seeds = f"{low}–{seeds}" if low < high else seeds
        yield f"Filled: ours ({seeds}), the {sizes.values[0].request.select.accuracy}."
    named = dict.fromkeys(value.seeds.words for value in sizes.values if value.seeds.named)
    if named:
        yield f"Ours: {'; '.join(named)}."
    if any(mark.diverged for mark in marks):
        yield "×: all runs diverged."
    yield "Grey lines: one network; r: of DIANet164."
