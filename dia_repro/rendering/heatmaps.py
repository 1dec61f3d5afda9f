"""Figure 5: heatmaps of feature integration, as the paper draws them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dia_repro.artifacts.paper import FIGURE5
from dia_repro.experiments.spec import Spec
from dia_repro.rendering import images
from dia_repro.rendering.marks import mark_of
from dia_repro.rendering.records import Record
from dia_repro.results.queries import RunDetail

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dia_repro.analysis.gini import Integration

CELL_FIELDS = ("states", "stage", "target", "source", "value", "share")
STATES = {
    "trained": "trained",
    "initial": "before training",
    "shuffled": "shuffled across images",
}
PANEL_WIDTH, PANEL_HEIGHT, SCALE_WIDTH = 3.7, 3.5, 0.6  # inches
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


ELSEWHERE = (
    " The heatmaps were not all made in one environment (device, instructions, versions): their "
    "differences may come from that, too."
)


def draw_integration(found: Sequence[Integration], run: RunDetail) -> Figure:
    """Return Figure 5 of a run's network: a row for each kind of hidden states."""
    from dia_repro.analysis.gini import in_several_environments

    rows: dict[str, list[Panel]] = {}
    for integration in found:
        states = STATES[integration.settings.source]
        panel = Panel(f"stage {integration.settings.stage}, {states}", integration.matrix)
        rows.setdefault(states, []).append(panel)
    spec = Spec.from_stored(run.spec_json)
    epochs = "1 epoch" if spec.recipe.epochs == 1 else f"{spec.recipe.epochs} epochs"
    settings = found[0].settings
    grown = "grown by scikit-learn" if settings.library else "scikit-learn's estimator"
    figure = draw_heatmaps(
        list(rows.values()),
        f"Figure 5. Feature integration: {spec.label}, {epochs}, run {run.summary.id}"
        f"{FIGURE5.departure([spec])}",
        f"Random forests of {settings.trees} trees ({grown}, its defaults) on the hidden states of "
        f"{found[0].samples} test images, seed {settings.seed}. A row: from which source layers a "
        "target layer's state is told, the importances of a layer's channels added up, divided "
        "by the row's largest." + (ELSEWHERE if in_several_environments(found) else ""),
    )
    figure.set_gid(mark_of([spec], run.summary.origin))
    return figure


def integration_records(found: Sequence[Integration]) -> Iterator[Record]:
    """Yield a record for each cell of the heatmaps, with `CELL_FIELDS`."""
    for integration in found:
        states, stage = integration.settings.source.value, integration.settings.stage
        for target, shares in integration.shares.items():
            for source, share in enumerate(shares.mean(0), start=1):
                value = float(integration.matrix[target - 2, source - 1])
                values = (states, stage, target, source, value, float(share))
                yield dict(zip(CELL_FIELDS, values, strict=True))


@images.style()
def draw_heatmaps(rows: Sequence[Sequence[Panel]], title: str, caption: str) -> Figure:
    """Return panels in rows, on one colour scale from 0 to 1, with the value in every cell."""
    from matplotlib.figure import Figure

    across = max(map(len, rows))
    size = PANEL_WIDTH * across + SCALE_WIDTH, PANEL_HEIGHT * len(rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), across, squeeze=False)
    for (i, j), place in np.ndenumerate(axes):
        if j < len(rows[i]):
            _draw(place, rows[i][j])
        else:
            place.axis("off")
    label = "importance ÷ the row's largest"
    figure.colorbar(axes[0, 0].images[0], ax=list(axes.flat), label=label, aspect=40)
    images.frame(figure, title, caption)
    return figure


def _draw(axes: Axes, panel: Panel) -> None:
    size = len(panel.matrix)
    axes.imshow(panel.matrix, cmap=COLOURS, vmin=0, vmax=1)
    step = max(1, -(-size // MOST_LABELS))
    ticks = np.arange(0, size, step)
    axes.set_xticks(ticks, [str(tick + 1) for tick in ticks], fontsize=6)
    axes.set_yticks(ticks, [str(tick + 2) for tick in ticks], fontsize=6)
    axes.set(title=panel.title, xlabel="source layer", ylabel="target layer")
    points = min(7.0, 85 / size)
    for (i, j), value in np.ndenumerate(panel.matrix):
        if not np.isnan(value):
            colour = "white" if value < DARK_BELOW else "black"
            # The leading 0 says nothing, and two digits fit where four would not.
            text = "1" if value > 0.995 else f"{value:.2f}".lstrip("0")
            label = axes.text(j, i, text, ha="center", va="center", fontsize=points, color=colour)
            label.set_in_layout(False)  # it is inside its panel, and there are hundreds of them
