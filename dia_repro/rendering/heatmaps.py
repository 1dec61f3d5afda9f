"""Figure 5: heatmaps of feature integration, as the paper draws them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dia_repro.rendering.images import fix_layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_INCHES, PANEL_INCHES = 11.0, 3.5
COLOURS = "viridis"
DARK_BELOW = 0.55  # of the colour scale: there a cell's value is written in white
MOST_LABELS = 18


@dataclass(frozen=True)
class Panel:
    """One heatmap.

    Attributes:
        title: above it.
        matrix: (T - 1, T - 1), targets 2 … T down, sources 1 … T-1 across; nan is left empty.
    """

    title: str
    matrix: NDArray[np.float64]


def draw_heatmaps(rows: Sequence[Sequence[Panel]], title: str, caption: str) -> Figure:
    """Panels in rows, on one colour scale from 0 to 1, with the value in every cell."""
    from matplotlib.figure import Figure

    across = max(map(len, rows))
    figure = Figure(
        figsize=(WIDTH_INCHES * across / 3 + 0.6, PANEL_INCHES * len(rows) + 1.1),
        layout="constrained",
    )
    axes = figure.subplots(len(rows), across, squeeze=False)
    for i, row in enumerate(rows):
        for j in range(across):
            if j < len(row):
                _draw(axes[i, j], row[j])
            else:
                axes[i, j].axis("off")
    figure.colorbar(
        axes[0, 0].images[0], ax=list(axes.flat), label="importance ÷ the row's largest", aspect=40
    )
    figure.suptitle("\n".join(textwrap.wrap(title, 48 * across)), fontsize=11)
    figure.supxlabel(
        "\n".join(textwrap.wrap(caption, 65 * across)), fontsize=7.5, x=0.02, ha="left"
    )
    fix_layout(figure)
    return figure


def _draw(axes: Axes, panel: Panel) -> None:
    size = len(panel.matrix)
    axes.imshow(panel.matrix, cmap=COLOURS, vmin=0, vmax=1)
    step = max(1, -(-size // MOST_LABELS))
    ticks = np.arange(0, size, step)
    axes.set_xticks(ticks, [str(tick + 1) for tick in ticks], fontsize=6)
    axes.set_yticks(ticks, [str(tick + 2) for tick in ticks], fontsize=6)
    axes.set_title(panel.title, fontsize=9)
    axes.set_xlabel("source layer", fontsize=8)
    axes.set_ylabel("target layer", fontsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    points = min(7.0, 85 / size)
    for (i, j), value in np.ndenumerate(panel.matrix):
        if not np.isnan(value):
            colour = "white" if value < DARK_BELOW else "black"
            # The leading 0 says nothing, and two digits fit where four would not.
            text = "1" if value > 0.995 else f"{value:.2f}".lstrip("0")
            label = axes.text(j, i, text, ha="center", va="center", fontsize=points, color=colour)
            label.set_in_layout(False)  # it is inside its panel, and there are hundreds of them
