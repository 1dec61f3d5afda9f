"""Figure 6: distributions of gradients, as curves over powers of ten."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dia_repro.rendering.images import looks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A bin that holds less of all elements than this is not worth drawing.
LEAST_SHARE = 5e-4


@dataclass(frozen=True)
class Curve:
    """One distribution of absolute values.

    Attributes:
        label: whose.
        counts: in each bin; below and above them first and last.
        lowest, bins_per_decade: where bins begin, as a power of ten, and how many a decade has.
        count: of all elements, those that are 0 among them.
        mean: of all elements.
    """

    label: str
    counts: Sequence[int]
    lowest: int
    bins_per_decade: int
    count: int
    mean: float

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Middles of the bins, as powers of ten, and the share of all elements for a decade."""
        inside = np.asarray(self.counts[1:-1], float)
        middles = self.lowest + (np.arange(len(inside)) + 0.5) / self.bins_per_decade
        return middles, inside / max(1, self.count) * self.bins_per_decade


def draw_distributions(
    rows: Mapping[str, Sequence[Sequence[Curve]]], title: str, caption: str
) -> Figure:
    """Panels with the same axes: a row for each moment, a column for each stage."""
    from matplotlib.figure import Figure

    across = max(map(len, rows.values()))
    figure = Figure(figsize=(3.6 * across, 2.5 * len(rows) + 1.0), layout="constrained")
    axes = figure.subplots(len(rows), across, squeeze=False, sharex=True, sharey=True)
    for i, (moment, panels) in enumerate(rows.items()):
        for j, curves in enumerate(panels):
            _draw(axes[i, j], curves)
            axes[i, j].set_title(f"stage {j + 1}, {moment}", fontsize=9)
        axes[i, 0].set_ylabel("share of elements a decade", fontsize=8)
    for j in range(across):
        axes[-1, j].set_xlabel("|∂loss/∂output|", fontsize=8)
    axes[0, 0].set_xlim(*_span([c for panels in rows.values() for cs in panels for c in cs]))
    axes[0, 0].set_ylim(bottom=0)
    axes[0, 0].xaxis.set_major_locator(_whole_numbers())
    axes[0, 0].xaxis.set_major_formatter(lambda power, _: f"$10^{{{power:.0f}}}$")
    axes[0, 0].legend(fontsize=7, frameon=False)
    figure.suptitle(title, fontsize=10)
    lines = "\n".join(textwrap.wrap(caption, 52 * across))
    figure.supxlabel(lines, fontsize=7.5, x=0.02, ha="left")
    return figure


def _draw(axes: Axes, curves: Sequence[Curve]) -> None:
    for curve, look in zip(curves, looks([(curve.label,) for curve in curves]), strict=True):
        colour = look.colour
        middles, shares = curve.points()
        axes.plot(
            middles, shares, color=colour, linestyle=look.line, label=curve.label, linewidth=1.2
        )
        axes.fill_between(middles, shares, color=colour, alpha=0.12, linewidth=0)
        if curve.mean > 0:
            axes.axvline(np.log10(curve.mean), color=colour, linestyle=look.line, linewidth=0.8)
    axes.tick_params(labelsize=7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _span(curves: Sequence[Curve]) -> tuple[float, float]:
    """The powers of ten between which there is something to see."""
    seen = []
    for curve in curves:
        middles, shares = curve.points()
        seen += list(middles[shares > LEAST_SHARE * curve.bins_per_decade])
    return (np.floor(min(seen)), np.ceil(max(seen))) if seen else (-1.0, 1.0)


def _whole_numbers() -> object:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True)
