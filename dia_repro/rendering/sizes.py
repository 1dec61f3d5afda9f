"""Accuracy against the number of parameters: the paper's points hollow, ours filled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dia_repro.artifacts.sizes import Mark, SizePanel, Sizes
from dia_repro.rendering import images
from dia_repro.rendering.grid import circumstances
from dia_repro.rendering.images import CONTEXT, LOOKS
from dia_repro.rendering.labels import place_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

PANEL_INCHES, CROWDED_INCHES, MANY = 1.5, 2.1, 12
MARKER = 4.0  # points
KINDS = ("original", "SENet", "DIANet")
DATA = {"cifar100": "CIFAR-100", "cifar10": "CIFAR-10", "imagenet": "ImageNet"}


def draw_sizes(sizes: Sizes) -> Figure:
    """A panel for each data set, one below the other, at a column's width."""
    from matplotlib.figure import Figure

    with images.style():
        heights = [CROWDED_INCHES if _crowded(one) else PANEL_INCHES for one in sizes.panels]
        inches = sum(heights)
        figure = Figure(figsize=(images.COLUMN_INCHES, inches), layout="constrained")
        axes = list(figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights).flat)
        for place, panel in zip(axes, sizes.panels, strict=True):
            _draw(place, panel, comparable=sizes.comparable)
        axes[-1].set_xlabel("parameters (M)")
        title = "Accuracy against parameters, Tables 3 to 5"
        if any(panel.ours for panel in sizes.panels):
            title += circumstances(sizes.values[0])
        images.frame(figure, inches, title, " ".join(_caption(sizes)), _handles())
        for place, panel in zip(axes, sizes.panels, strict=True):
            _label(place, panel)
    return figure


def _crowded(panel: SizePanel) -> bool:
    return max(len(panel.paper), len(panel.ours)) > MANY


def _draw(axes: Axes, panel: SizePanel, *, comparable: bool) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    name = DATA.get(panel.data, panel.data)
    if not comparable:
        name += ", ours" if panel.ours else ", the paper's"
    axes.set_title(name, loc="left")
    axes.set_ylabel("test accuracy (%)")
    axes.set_xscale("log")
    _connect(axes, panel.paper or panel.ours)
    for mark in panel.paper:
        _point(axes, mark, hollow=True)
    for mark in panel.ours:
        _point(axes, mark, hollow=False)
    axes.margins(0.1, 0.22)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _connect(axes: Axes, marks: Sequence[Mark]) -> None:
    """A line through the kinds of each network, which are compared with each other."""
    by_network: dict[str, list[Mark]] = {}
    for mark in marks:
        if not mark.diverged:
            by_network.setdefault(mark.network, []).append(mark)
    for of_one in by_network.values():
        in_order = sorted(of_one, key=lambda mark: KINDS.index(mark.kind))
        xs, ys = [m.parameters for m in in_order], [m.top1 for m in in_order]
        axes.plot(xs, ys, color=CONTEXT, linewidth=1.0, zorder=1)


def _point(axes: Axes, mark: Mark, *, hollow: bool) -> None:
    look = LOOKS[mark.kind]
    if mark.diverged:
        at_bottom = axes.get_xaxis_transform()
        axes.plot(
            [mark.parameters],
            [0.04],
            marker="x",
            color=look.colour,
            markersize=MARKER,
            transform=at_bottom,
            clip_on=False,
        )
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
    """The networks' names, each at its most accurate point."""
    shown = [mark for mark in (*panel.paper, *panel.ours) if not mark.diverged]
    best: dict[str, Mark] = {}
    for mark in panel.paper or panel.ours:
        if not mark.diverged and mark.top1 > best.get(mark.network, mark).top1 - 1e-9:
            best[mark.network] = mark
    names = [(one.parameters, one.top1, _short(name)) for name, one in best.items()]
    place_labels(axes, names, [(mark.parameters, mark.top1) for mark in shown], images.SMALL)


def _short(network: str) -> str:
    # Table 4's networks stand beside that with r = 4.
    return network.rpartition(" ")[2]


def _handles() -> list[Line2D]:
    from matplotlib.lines import Line2D

    return [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=LOOKS[kind].marker,
            markersize=MARKER,
            color=LOOKS[kind].colour,
            label=kind,
        )
        for kind in KINDS
    ]


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
        yield f"Filled: ours ({seeds}), the highest accuracy over epochs."
    if any(mark.diverged for mark in marks):
        yield "×: all runs diverged."
    yield "Grey lines: one network; r: of DIANet164."
