"""Where a cell comes from, as text for people and as records for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict

from rich.console import Group, RenderableType
from rich.text import Text

from dia_repro.artifacts.explanation import (
    Experiment,
    ExplainedValue,
    Explanation,
    RunBehind,
)
from dia_repro.artifacts.metrics import METRICS
from dia_repro.experiments.spec import Spec
from dia_repro.rendering.cells import EXPLANATIONS
from dia_repro.rendering.grid import CHANGE, accuracy, number, protocol_name
from dia_repro.rendering.listing import Column, field, listing
from dia_repro.rendering.records import Record

EXPLANATION_FIELDS = (*EXPLANATIONS.names, "command")
OF_CELL = EXPLANATIONS.names[: EXPLANATIONS.names.index("how")]
OF_RUN = EXPLANATIONS.names[EXPLANATIONS.names.index("run") :]
OF_ATTEMPT = OF_RUN[OF_RUN.index("host") :]
SHORT_COMMIT = 10
CLEANNESS = {True: "", False: " modified", None: " (modified or not: unknown)"}


def commit_text(commit: str | None, clean: bool | None) -> str:
    """Return a commit and whether its checkout was clean; empty where there is no checkout."""
    return "" if commit is None else commit[:SHORT_COMMIT] + CLEANNESS[clean]


def _note(record: Record) -> str:
    attempts = f"{record['attempts']} attempts, this is the last" if record["attempts"] > 1 else ""
    return "; ".join(filter(None, (record["reason"], attempts)))


VALUE_COLUMNS = (
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
    Column("commit", lambda r: commit_text(r["git_commit"], r["git_clean"])),
    Column("ended (UTC)", field("ended_at", "{:%Y-%m-%d %H:%M:%S}")),
    Column("note", _note),
)


def explanation_records(explanation: Explanation, commands: Mapping[str, str]) -> list[Record]:
    """Return one record for each value and run behind it, with `EXPLANATION_FIELDS`.

    A value whose experiment has no runs has one record all the same, without a run.

    Args:
        commands: by spec_id, what would train each experiment.
    """
    records: list[Record] = []
    for figure in explanation.values:
        cell = asdict(figure.cell)
        known = {name: cell[name] for name in OF_CELL} | {"how": figure.how}
        for experiment in explanation.experiments:
            compared = experiment is explanation.compared
            if compared and not figure.is_change:
                continue
            spec = experiment.spec
            known |= {
                "compared": compared,
                "spec_id": spec.spec_id,
                "network": spec.model.label,
                "dataset": spec.data.dataset,
                "precision": spec.precision,
                "epochs": spec.recipe.epochs,
                "command": commands[spec.spec_id],
            }
            runs = [_run_record(one, figure) for one in experiment.runs]
            records += [known | run for run in runs or [dict.fromkeys(OF_RUN)]]
    return records


def _run_record(one: RunBehind, figure: ExplainedValue) -> dict[str, object]:
    metric = figure.cell.metric
    return _run(one) | {
        "uid": one.run.uid,
        "used": one.run.id in figure.used,
        "epoch": one.epoch_for(metric),
        "value": one.value_for(metric),
    }


def _run(one: RunBehind) -> dict[str, object]:
    return {
        "run": one.run.id,
        "seed": one.run.seed,
        "state": one.run.state.value,
        "reason": one.run.reason,
        "epochs_done": one.run.epochs,
        "attempts": len(one.history.attempts),
        **{name: getattr(one.history.last, name, None) for name in OF_ATTEMPT},
    }


def to_people(explanation: Explanation, commands: Mapping[str, str]) -> RenderableType:
    """Return the values, then each experiment with its runs and the command that would train it.

    Args:
        commands: by spec_id.
    """
    own = explanation.own
    value = explanation.value
    environment = f"{protocol_name(value.request)} on {own.spec.data.dataset}"
    if value.seeds.named:
        environment += f", {value.seeds.words}"
    title = f"{value.artifact.label}, {own.entry.label} ({environment})"
    values = listing(VALUE_COLUMNS, [_value_texts(one) for one in explanation.values])
    parts: list[RenderableType] = [Text(title, style="bold"), Text(), values]
    for experiment in explanation.experiments:
        parts += [Text(), *_experiment_texts(explanation, experiment, commands)]
    return Group(*parts)


def _value_texts(figure: ExplainedValue) -> Record:
    cell = figure.cell
    form = CHANGE if cell.metric == "params_delta" else ".2f"
    is_accuracy = cell.metric.startswith("top1")
    return {
        "metric": cell.metric,
        "unit": cell.unit,
        "paper": number(cell, form, ours=False),
        "ours": accuracy(cell) if is_accuracy else number(cell, form, ours=True),
        "how": figure.how,
    }


def _experiment_texts(
    explanation: Explanation, experiment: Experiment, commands: Mapping[str, str]
) -> Iterator[RenderableType]:
    role = "Compared with " if experiment is explanation.compared else "Runs of "
    yield Text(f"{role}{experiment.entry.label}", style="bold")
    if experiment.runs:
        metrics = {one.cell.metric for one in explanation.values}
        yield listing(RUN_COLUMNS, [_run_texts(metrics, experiment, r) for r in experiment.runs])
    else:
        yield Text("There are none yet.")
    spec_id = experiment.spec.spec_id
    yield Text(f"Experiment {spec_id}: {describe_experiment(experiment.spec)}")
    yield Text(f"To train it: {commands[spec_id]}", no_wrap=True, overflow="ignore")


def describe_experiment(spec: Spec) -> str:
    """Return a spec in words: network, data, recipe, precision."""
    return f"{spec.label}, {spec.recipe.label}, {spec.precision}"


def _run_texts(metrics: Iterable[str], experiment: Experiment, one: RunBehind) -> Record:
    taken = {METRICS[metric].value for metric in metrics}

    def at_epoch(metric: str) -> str | None:
        value, epoch = one.value_for(metric), one.epoch_for(metric)
        return None if value is None or epoch is None else f"{value:.2f} (epoch {epoch})"

    return {
        **_run(one),
        "epochs": experiment.spec.recipe.epochs,
        "best": at_epoch("top1") if METRICS["top1"].value in taken else None,
        "last": at_epoch("top1_last") if METRICS["top1_last"].value in taken else None,
        "parameters": one.value_for("params") if METRICS["params"].value in taken else None,
    }
