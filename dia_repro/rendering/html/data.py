"""What a page's script knows: runs behind each cell, commands, curves."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from markupsafe import Markup

from dia_repro.artifacts.explanation import Experiment, Findings, RunBehind
from dia_repro.experiments.describe import describe_data, describe_model, describe_recipe
from dia_repro.rendering.grid import Grid
from dia_repro.rendering.html.curves import (
    MOST_RUNS,
    chart,
    drawn_epochs,
    experiments_shown,
    series,
    stride,
)
from dia_repro.rendering.html.grids import cell_key
from dia_repro.rendering.html.values import Report


def page_data(report: Report, shown: Iterable[tuple[Findings, Grid]]) -> dict[str, Any]:
    """All of it, with an experiment that several artifacts share once."""
    artifacts = list(shown)
    known = experiments_shown(findings for findings, _ in artifacts)
    every = stride(known.values())
    specs = {spec_id: _spec(one, every) for spec_id, one in known.items()}
    return {
        "every": every,
        "specs": specs,
        "cells": dict(
            pair for findings, grid in artifacts for pair in _cells(report, findings, grid)
        ),
        "charts": {findings.artifact.name: chart(findings, specs) for findings, _ in artifacts},
    }


def _spec(experiment: Experiment, every: int) -> dict[str, Any]:
    spec, runs = experiment.spec, experiment.runs[:MOST_RUNS]
    epochs = drawn_epochs(runs, every)
    return {
        "about": f"{describe_model(spec.model)} on {describe_data(spec.data)}, "
        f"{describe_recipe(spec.recipe)}, {spec.precision}",
        "of": spec.recipe.epochs,
        "epochs": epochs,
        "runs": [_run(one, epochs) for one in runs],
        "more": len(experiment.runs) - len(runs),
    }


def _run(one: RunBehind, epochs: list[int]) -> dict[str, Any]:
    run, last = one.run, one.history.last
    return {
        "run": run.id,
        "seed": run.seed,
        "state": run.state.value,
        "reason": run.reason,
        "best": run.best_top1,
        "bestEpoch": one.history.best_epoch,
        "last": _finite(run.last_top1),
        "done": run.epochs,
        "where": f"{last.host}, {last.device}" if last else None,
        "series": series(one, epochs),
    }


def _finite(figure: float | None) -> float | None:
    return figure if figure is not None and abs(figure) <= 100.0 else None


def _cells(report: Report, findings: Findings, grid: Grid) -> Iterable[tuple[str, dict[str, Any]]]:
    value, span = findings.value, grid.groups[0][1]
    for (row, column), experiment in findings.experiments.items():
        entry = experiment.entry
        if not entry.shown:
            continue
        at = value.paper.rows.index(row), 1 + value.paper.columns.index(column) * span
        texts = grid.rows[at[0]][at[1] : at[1] + span]
        compared = findings.experiments.get(entry.compared_with) if entry.compared_with else None
        commands = report.commands[findings.artifact.name, row, column]
        yield (
            cell_key(value, row, column),
            {
                "title": f"{value.label}: {column}, {row}",
                "figures": list(zip(grid.columns[1 : 1 + span], texts, strict=True)),
                "spec": experiment.spec.spec_id,
                "compared": compared and [compared.entry.label, compared.spec.spec_id],
                "train": commands.train,
                "explain": commands.explain,
            },
        )


def as_script(data: dict[str, Any]) -> Markup:
    """JSON that cannot end the element it stands in, whatever the database's texts are."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # U+2028 and U+2029 are line ends to old readers of JavaScript.
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704
