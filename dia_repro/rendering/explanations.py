"""Where a cell comes from, as text for people and as records for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text

from dia_repro.artifacts.explanation import (
    BEST,
    LAST,
    Experiment,
    ExplainedFigure,
    Explanation,
    RunBehind,
)
from dia_repro.experiments.describe import describe_data, describe_model, describe_recipe
from dia_repro.rendering.grid import MISSING, accuracy, protocol_name
from dia_repro.rendering.listing import Column, field, listing
from dia_repro.rendering.records import Record

OF_CELL = (
    "artifact",
    "row",
    "column",
    "metric",
    "unit",
    "paper",
    "ours_mean",
    "ours_std",
    "n",
    "n_expected",
    "status",
    "protocol",
)
OF_EXPERIMENT = ("compared", "spec_id", "network", "dataset", "precision", "epochs", "command")
OF_RUN = (
    "run",
    "uid",
    "seed",
    "state",
    "reason",
    "used",
    "epoch",
    "value",
    "epochs_done",
    "attempts",
    "host",
    "device",
    "torch",
    "git_commit",
    "git_clean",
    "ended_at",
)
EXPLANATION_FIELDS = (*OF_CELL, "how", *OF_EXPERIMENT, *OF_RUN)
SHORT_COMMIT = 10


def _note(record: Record) -> str:
    attempts = f"{record['attempts']} attempts, this is the last" if record["attempts"] > 1 else ""
    return "; ".join(filter(None, (record["reason"], attempts)))


FIGURE_COLUMNS = (
    Column("figure", field("metric")),
    Column("unit", field("unit")),
    Column("paper", field("paper"), right=True),
    Column("ours", field("ours"), right=True),
    Column("how", field("how")),
)
RUN_COLUMNS = (
    Column("run", field("run"), right=True),
    Column("seed", field("seed"), right=True),
    Column("state", field("state")),
    Column("best %", field("best"), right=True),
    Column("last %", field("last"), right=True),
    Column("#P (M)", field("parameters", "{:.2f}"), right=True),
    Column("epochs", lambda r: f"{r['epochs_done']}/{r['epochs']}", right=True),
    Column("host", field("host")),
    Column("device", field("device")),
    Column("torch", field("torch")),
    Column("commit", lambda r: _commit(r["git_commit"], r["git_clean"])),
    Column("ended (UTC)", lambda r: _moment(r["ended_at"])),
    Column("note", _note),
)


def explanation_records(explanation: Explanation, commands: Mapping[str, str]) -> list[Record]:
    """One record for each figure and run behind it, with `EXPLANATION_FIELDS`.

    A figure whose experiment has no runs has one record all the same, without a run.

    Args:
        commands: by spec_id, what would train each experiment.
    """
    records: list[Record] = []
    for figure in explanation.figures:
        experiments = [explanation.own]
        if figure.is_change and explanation.compared:
            experiments.append(explanation.compared)
        for experiment in experiments:
            known = {
                **_of_figure(figure),
                **_of_experiment(experiment),
                "compared": experiment is explanation.compared,
                "command": commands[experiment.spec.spec_id],
            }
            records += [known | run for run in _of_runs(figure, experiment)]
    return records


def _of_figure(figure: ExplainedFigure) -> dict[str, object]:
    known = asdict(figure.cell)
    return {**{name: known[name] for name in OF_CELL}, "how": figure.how}


def _of_experiment(experiment: Experiment) -> dict[str, object]:
    spec = experiment.spec
    return {
        "spec_id": spec.spec_id,
        "network": describe_model(spec.model),
        "dataset": spec.data.dataset,
        "precision": spec.precision,
        "epochs": spec.recipe.epochs,
    }


def _of_runs(figure: ExplainedFigure, experiment: Experiment) -> Iterator[dict[str, object]]:
    metric = figure.cell.metric
    for one in experiment.runs:
        yield {
            **_of_run(one),
            "uid": one.run.uid,
            "used": one.run.id in figure.used,
            "epoch": one.epoch_for(metric),
            "value": one.value_for(metric),
        }
    if not experiment.runs:
        yield dict.fromkeys(OF_RUN)


def _of_run(one: RunBehind) -> dict[str, object]:
    last = one.history.last
    circumstances = ("host", "device", "torch", "git_commit", "git_clean", "ended_at")
    return {
        "run": one.run.id,
        "seed": one.run.seed,
        "state": one.run.state.value,
        "reason": one.run.reason,
        "epochs_done": one.run.epochs,
        "attempts": len(one.history.attempts),
        **{name: getattr(last, name) if last else None for name in circumstances},
    }


def to_people(explanation: Explanation, commands: Mapping[str, str]) -> RenderableType:
    """The figures, then each experiment with its runs and the command that would train it.

    Args:
        commands: by spec_id.
    """
    own = explanation.own
    circumstances = f"{protocol_name(explanation.request)} on {own.spec.data.dataset}"
    title = f"{explanation.label}, {own.entry.label} ({circumstances})"
    figures = listing(FIGURE_COLUMNS, [_figure_texts(one) for one in explanation.figures])
    parts: list[RenderableType] = [Text(title, style="bold"), Text(), figures]
    for experiment in explanation.experiments:
        parts += [Text(), *_experiment_texts(explanation, experiment, commands)]
    return Group(*parts)


def _figure_texts(figure: ExplainedFigure) -> Record:
    cell = figure.cell
    form = "{:+.2f}" if cell.metric == "params_delta" else "{:.2f}"
    ours = MISSING if cell.ours_mean is None else form.format(cell.ours_mean)
    return {
        "metric": cell.metric,
        "unit": cell.unit,
        "paper": "" if cell.paper is None else form.format(cell.paper),
        "ours": accuracy(cell) if cell.metric.startswith("top1") else ours,
        "how": figure.how,
    }


def _experiment_texts(
    explanation: Explanation, experiment: Experiment, commands: Mapping[str, str]
) -> Iterator[RenderableType]:
    role = "Compared with " if experiment is explanation.compared else "Runs of "
    yield Text(f"{role}{experiment.entry.label}", style="bold")
    if experiment.runs:
        metrics = [one.cell.metric for one in explanation.figures]
        yield listing(RUN_COLUMNS, [_run_texts(metrics, experiment, r) for r in experiment.runs])
    else:
        yield Text("There are none yet.")
    spec = experiment.spec
    words = f"{describe_model(spec.model)} on {describe_data(spec.data)}"
    recipe = f"{describe_recipe(spec.recipe)}, {spec.precision}"
    yield Text(f"Experiment {spec.spec_id}: {words}, {recipe}")
    yield Text(f"To train it: {commands[spec.spec_id]}", no_wrap=True, overflow="ignore")


def _run_texts(metrics: list[str], experiment: Experiment, one: RunBehind) -> Record:
    best, last = one.epoch_for("top1"), one.epoch_for("top1_last")
    counts = any(metric.startswith("params") for metric in metrics)
    return {
        **_of_run(one),
        "epochs": experiment.spec.recipe.epochs,
        "best": _at_epoch(one.run.best_top1, best) if {*BEST} & {*metrics} else None,
        "last": _at_epoch(one.run.last_top1, last) if {*LAST} & {*metrics} else None,
        "parameters": one.value_for("params") if counts else None,
    }


def _at_epoch(top1: float | None, epoch: int | None) -> str | None:
    return None if top1 is None or epoch is None else f"{top1:.2f} (epoch {epoch})"


CLEANNESS = {True: "", False: " modified", None: " (modified or not: unknown)"}


def _commit(commit: str | None, clean: bool | None) -> str:
    if commit is None:
        return ""
    return commit[:SHORT_COMMIT] + CLEANNESS[clean]


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else moment.isoformat(" ", timespec="seconds")
