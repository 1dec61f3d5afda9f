"""Learning curves as a page's script reads them, with no more points than a page should carry."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from dia_repro.artifacts.explanation import Experiment, Findings, RunBehind

# Figures on a page in all. One takes some six bytes, and a page should stay below 5 MB.
MOST_FIGURES = 240_000
# Runs of a network that a page lists and draws one by one.
MOST_RUNS = 50
DIGITS = 4
COLOURS = 8  # that the style sheet has for curves


def experiments_shown(findings: Iterable[Findings]) -> dict[str, Experiment]:
    """Each experiment once, by spec_id: several artifacts share some."""
    return {one.spec.spec_id: one for of in findings for one in of.experiments.values()}


def stride(shown: Iterable[Experiment]) -> int:
    """Every how many epochs are drawn: 1 if all figures of these experiments fit on a page."""
    total = 0
    for experiment in shown:
        for one in experiment.runs[:MOST_RUNS]:
            total += len(one.history.epochs) * len(one.history.measures)
    return max(1, -(-total // MOST_FIGURES))


def drawn_epochs(runs: Sequence[RunBehind], every: int) -> list[int]:
    """The first epoch and every so many, and the last of each run."""
    known = [one.history.epochs for one in runs if one.history.epochs]
    lasts = {epochs[-1] for epochs in known}
    return sorted({e for e in chain(*known) if (e - 1) % every == 0} | lasts)


def series(one: RunBehind, epochs: Sequence[int]) -> dict[str, list[float | None]]:
    """A run's figures at these epochs; None where it has none, or one that is not finite."""
    indices = {epoch: index for index, epoch in enumerate(one.history.epochs)}
    if not indices:
        return {}
    return {
        name: [_rounded(figures[indices[e]]) if e in indices else None for e in epochs]
        for name, figures in one.history.measures.items()
    }


def _rounded(figure: float) -> float | None:
    return float(f"{figure:.{DIGITS}g}") if math.isfinite(figure) else None


def chart(findings: Findings, drawn: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The networks of an artifact that have curves, with a colour and a dash for each.

    Rows differ in colour and columns in dash, the last column's line being whole; where there is
    one row, columns differ in both. Cells with the same experiment have one curve.

    Args:
        drawn: by spec_id, with the epochs that are drawn.
    """
    rows = list(dict.fromkeys(row for row, _ in findings.experiments))
    # Networks that the artifact only compares with come first, so that its own lines are whole.
    by_role = sorted(findings.experiments.values(), key=lambda one: one.entry.shown)
    columns = list(dict.fromkeys(one.entry.column for one in by_role))
    found: dict[str, dict[str, Any]] = {}
    for (row, column), experiment in findings.experiments.items():
        spec_id, label = experiment.spec.spec_id, experiment.entry.label
        if spec_id in found:
            found[spec_id]["label"] += f" = {label}"
        elif drawn[spec_id]["epochs"]:
            down, across = rows.index(row), columns.index(column)
            found[spec_id] = {
                "label": label,
                "spec": spec_id,
                "colour": (down if len(rows) > 1 else across) % COLOURS,
                "dash": len(columns) - 1 - across + len(columns) * (down // COLOURS),
            }
    return list(found.values())
