"""Labels beside points, where they hide neither points nor each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHARACTER = 0.58  # width of an average character, of the size of the text
POINT_RADIUS = 3.5
POINTS_PER_INCH = 72
DISTANCES = (4.0, 9.0, 15.0, 22.0)
# To the right and left first, where a label reads best, then above and below.
DIRECTIONS: tuple[tuple[float, float], ...] = (
    (1, 0),
    (-1, 0),
    (0, 1),
    (0, -1),
    (1, 1),
    (-1, 1),
    (1, -1),
    (-1, -1),
)
SIDES: dict[float, Literal["left", "center", "right"]] = {1: "left", 0: "center", -1: "right"}
LEADER_FROM = 5.0  # points; a label farther off than this has a line to its point


@dataclass(frozen=True)
class Box:
    """A rectangle, in points."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, width) * max(0.0, height)


@dataclass(frozen=True)
class Position:
    """Where a label may stand: its offset from the point, and the box it fills."""

    offset: tuple[float, float]
    side: Literal["left", "center", "right"]
    distance: float
    box: Box


def place_labels(
    axes: Axes,
    labels: Sequence[tuple[float, float, str]],
    points: Sequence[tuple[float, float]],
    size: float,
) -> None:
    """Write each label (x, y, text) where it is least in the way of points and other labels.

    The layout has to be settled, and the limits of the axes.

    Args:
        size: of the text, in points.
    """
    figure = axes.get_figure()
    scale = POINTS_PER_INCH / (figure.dpi if figure else POINTS_PER_INCH)
    window = axes.get_window_extent()
    whole = Box(window.x0 * scale, window.y0 * scale, window.x1 * scale, window.y1 * scale)

    def in_points(x: float, y: float) -> tuple[float, float]:
        across, up = axes.transData.transform((x, y))
        return float(across) * scale, float(up) * scale

    taken = [_around(*in_points(x, y)) for x, y in points]
    for x, y, text in labels:
        position = best_position(in_points(x, y), text, size, taken, whole)
        taken.append(position.box)
        far = position.distance > LEADER_FROM
        axes.annotate(
            text,
            (x, y),
            xytext=position.offset,
            textcoords="offset points",
            ha=position.side,
            va="center",
            fontsize=size,
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "0.5"} if far else None,
            zorder=4,
        )


def best_position(
    point: tuple[float, float], text: str, size: float, taken: Sequence[Box], whole: Box
) -> Position:
    """The first position that is free, else the one that covers the least."""
    return min(
        _positions(point, text, size), key=lambda position: _cost(position.box, taken, whole)
    )


def _cost(box: Box, taken: Sequence[Box], whole: Box) -> float:
    area = (box.right - box.left) * (box.top - box.bottom)
    outside = area - box.overlap(whole)
    return sum(box.overlap(one) for one in taken) + 10 * outside


def _positions(point: tuple[float, float], text: str, size: float) -> Iterator[Position]:
    width, height = CHARACTER * size * len(text), size
    for distance in DISTANCES:
        for across, up in DIRECTIONS:
            x, y = across * distance, up * (distance + height / 2)
            left = point[0] + x - {1.0: 0.0, 0.0: width / 2, -1.0: width}[float(across)]
            bottom = point[1] + y - height / 2
            box = Box(left, bottom, left + width, bottom + height)
            yield Position((x, y), SIDES[across], distance, box)


def _around(x: float, y: float) -> Box:
    return Box(x - POINT_RADIUS, y - POINT_RADIUS, x + POINT_RADIUS, y + POINT_RADIUS)
