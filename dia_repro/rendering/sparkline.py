"""A curve in a line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

BLOCKS, PLAIN = "▁▂▃▄▅▆▇█", "_.-=+*#@"


def sparkline(values: Sequence[float], width: int, *, plain: bool = False) -> str:
    """Return values as blocks from lowest to highest; more than `width` of them are averaged.

    Values that are not finite are left out of averages; a cross stands for those without others.

    Args:
        plain: for terminals that know ASCII only.
    """
    levels, gap = (PLAIN, "x") if plain else (BLOCKS, "×")
    count = min(width, len(values))
    ends = [round(number * len(values) / count) for number in range(count + 1)] if count else []
    parts = [[value for value in values[a:b] if math.isfinite(value)] for a, b in pairwise(ends)]
    means = [fmean(part) if part else None for part in parts]
    known = [mean for mean in means if mean is not None]
    low, span = (min(known), max(known) - min(known)) if known else (0.0, 0.0)

    def block(mean: float | None) -> str:
        if mean is None:
            return gap
        return levels[round((mean - low) / span * (len(levels) - 1))] if span else levels[3]

    return "".join(map(block, means))
