"""A curve in a line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

BLOCKS, PLAIN = "▁▂▃▄▅▆▇█", "_.-=+*#@"
GAP = "×"  # where there is no finite figure


def sparkline(figures: Sequence[float], width: int, *, plain: bool = False) -> str:
    """Return values as blocks from lowest to highest; more than `width` of them are averaged.

    Args:
        plain: for terminals that know ASCII only.
    """
    levels = PLAIN if plain else BLOCKS
    means = [_mean(part) for part in _parts(figures, width)]
    known = [one for one in means if one is not None]
    if not known:
        return (("x" if plain else GAP) * len(means))[:width]
    low, span = min(known), max(known) - min(known)

    def level(figure: float | None) -> str:
        if figure is None:
            return "x" if plain else GAP
        return levels[round((figure - low) / span * (len(levels) - 1))] if span else levels[3]

    return "".join(map(level, means))


def _parts(figures: Sequence[float], width: int) -> list[Sequence[float]]:
    count = min(width, len(figures))
    ends = [round(number * len(figures) / count) for number in range(count + 1)] if count else []
    return [figures[a:b] for a, b in pairwise(ends)]


def _mean(figures: Sequence[float]) -> float | None:
    known = [figure for figure in figures if math.isfinite(figure)]
    return fmean(known) if known else None
