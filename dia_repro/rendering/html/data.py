"""Data of a page's script: runs behind each cell, commands, learning curves."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from dia_repro.artifacts.explanation import Experiment, Findings, RunBehind
from dia_repro.rendering.escaping import visible
from dia_repro.rendering.explanations import describe_experiment
from dia_repro.rendering.grid import Grid
from dia_repro.rendering.records import plain

if TYPE_CHECKING:
    from dia_repro.rendering.html.page import Shown

# Values on a page in all. A value takes some six bytes, and a page should stay below 5 MB.
MOST_VALUES = 240_000
# Runs of a network that a page lists and draws one by one.
MOST_RUNS = 50
DIGITS = 4
COLOURS = 8  # that the style sheet has for curves


def page_data(artifacts: Sequence[Shown], grids: Sequence[Grid]) -> dict[str, Any]:
    """Return all of it, with an experiment that several artifacts share once."""
    experiments = [of for shown in artifacts for of in shown.findings.experiments.values()]
    known = {experiment.spec.spec_id: experiment for experiment in experiments}
    histories = [run.history for of in known.values() for run in of.runs[:MOST_RUNS]]
    values = sum(len(history.epochs) * len(history.measures) for history in histories)
    every = max(1, -(-values // MOST_VALUES))
    specs = {spec_id: _spec(experiment, every) for spec_id, experiment in known.items()}
    return {
        "evaluated": artifacts[0].findings.value.request.select.value if artifacts else "test",
        "every": every,
        "specs": specs,
        "cells": dict(chain.from_iterable(map(_cells, artifacts, grids))),
        "charts": {shown.name: _chart(shown.findings, specs) for shown in artifacts},
    }


def _spec(experiment: Experiment, every: int) -> dict[str, Any]:
    """Return an experiment with its runs at the first, every n-th and the last epoch."""
    runs = experiment.runs[:MOST_RUNS]
    known = [run.history.epochs for run in runs if run.history.epochs]
    lasts = {epochs[-1] for epochs in known}
    epochs = sorted({epoch for epoch in chain(*known) if (epoch - 1) % every == 0} | lasts)
    return {
        "about": describe_experiment(experiment.spec),
        "of": experiment.spec.recipe.epochs,
        "epochs": epochs,
        "runs": [_run(behind, epochs) for behind in runs],
        "more": len(experiment.runs) - len(runs),
    }


def _run(behind: RunBehind, epochs: Sequence[int]) -> dict[str, Any]:
    run, history = behind.run, behind.history
    indices = {epoch: index for index, epoch in enumerate(history.epochs)}
    return {
        "run": run.id,
        "seed": run.seed,
        "state": run.state.value,
        "reason": run.reason,
        "best": run.best_top1,
        "bestEpoch": history.best_epoch,
        "last": run.last_top1 if math.isfinite(run.last_top1 or 0.0) else None,
        "done": run.epochs,
        "where": f"{history.last.host}, {history.last.device}" if history.last else None,
        "series": {
            name: [_rounded(values[indices[e]]) if e in indices else None for e in epochs]
            for name, values in history.measures.items()
            if indices
        },
    }


def _rounded(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _cells(shown: Shown, grid: Grid) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each cell of the table that has a network, by its key in the page."""
    findings, artifact = shown.findings, shown.findings.value.artifact
    for (row, column), experiment in findings.experiments.items():
        if not experiment.entry.shown:
            continue
        at, group = artifact.paper.rows.index(row), artifact.paper.columns.index(column)
        headings = (heading.text for heading in grid.headings)
        texts = (cell.text for cell in grid.rows[at].groups[group])
        other = experiment.entry.compared_with
        compared = findings.experiments[other] if other else None
        yield (
            f"{artifact.name}-{at + 1}-{group + 1}",
            {
                "title": f"{artifact.label}: {column}, {row}",
                "figures": list(zip(headings, texts, strict=True)),
                "spec": experiment.spec.spec_id,
                "compared": compared and [compared.entry.label, compared.spec.spec_id],
                **asdict(shown.commands[row, column]),
            },
        )


def _chart(findings: Findings, drawn: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the networks of an artifact that have curves, with a colour and a dash for each.

    Rows differ in colour and columns in dash, the last column's line being whole; where there is
    one row, columns differ in both. Cells with the same experiment have one curve.

    Args:
        drawn: by spec_id, with the epochs that are drawn.
    """
    rows = list(dict.fromkeys(row for row, _ in findings.experiments))
    # Networks that the artifact only compares with come first, so that its own lines are whole.
    by_role = sorted(findings.experiments.values(), key=lambda experiment: experiment.entry.shown)
    columns = list(dict.fromkeys(experiment.entry.column for experiment in by_role))
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


def as_script(data: dict[str, Any]) -> Markup:
    """Return JSON that cannot end the element it is in, whatever the database's texts are.

    Control characters in texts are as `visible` shows them.
    """
    shown = plain(data, texts=visible)
    text = json.dumps(shown, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704
