"""Origin of a cell, as text for people and as records for programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter

from rich.console import Group, RenderableType
from rich.text import Text

from dia_repro.artifacts.explanation import Findings, RunBehind
from dia_repro.artifacts.metrics import METRICS, Cell
from dia_repro.experiments.protocols import rate_chosen_with
from dia_repro.experiments.spec import Spec
from dia_repro.rendering.cells import EXPLANATIONS, OF_ATTEMPT
from dia_repro.rendering.grid import CHANGE, accuracy, number, protocol_name
from dia_repro.rendering.listing import Column, field, listing
from dia_repro.rendering.records import Record
from dia_repro.results.schema import DONE

EXPLANATION_FIELDS = (*EXPLANATIONS.names, "command")
OF_CELL = EXPLANATIONS.names[: EXPLANATIONS.names.index("compared")]
OF_RUN = EXPLANATIONS.names[EXPLANATIONS.names.index("run") :]
SHORT_COMMIT = 10
CLEANNESS = {True: "", False: " modified", None: " (modified or not: unknown)"}


def commit_text(commit: str | None, clean: bool | None) -> str:
    """Return a commit and whether its checkout was clean; empty where there is no checkout."""
    return "" if commit is None else commit[:SHORT_COMMIT] + CLEANNESS[clean]


def explanation_records(found: Findings, commands: Mapping[str, str]) -> list[Record]:
    """Return one record for each value and run behind it, with `EXPLANATION_FIELDS`.

    A value whose experiment has no runs has one record all the same, without a run.

    Args:
        found: see `artifacts.explanation.explain`.
        commands: by spec_id, the command that trains each experiment.
    """
    records: list[Record] = []
    for cell in found.value.cells:
        known = {name: getattr(cell, name) for name in OF_CELL}
        is_change = METRICS[cell.metric].sign != 0
        for index, experiment in enumerate(found.experiments.values()):
            if index and not is_change:
                continue
            spec = experiment.spec
            known |= {
                "compared": index > 0,
                "spec_id": spec.spec_id,
                "network": spec.model.label,
                "dataset": spec.data.dataset,
                "precision": spec.precision,
                "epochs": spec.recipe.epochs,
                "command": commands[spec.spec_id],
            }
            runs = [_run(behind) | _use(behind, cell) for behind in experiment.runs]
            records += [known | run for run in runs or [dict.fromkeys(OF_RUN)]]
    return records


def _run(behind: RunBehind) -> dict[str, object]:
    run, history = behind.run, behind.history
    return {
        "run": run.id,
        "uid": run.uid,
        "seed": run.seed,
        "state": run.state.value,
        "reason": run.reason,
        "epochs_done": run.epochs,
        "attempts": len(history.attempts),
        **{name: getattr(history.last, name, None) for name in OF_ATTEMPT},
    }


def _use(behind: RunBehind, cell: Cell) -> dict[str, object]:
    return {
        "used": behind.run.id in cell.used,
        "epoch": behind.epoch_for(cell.metric),
        "value": behind.value_for(cell.metric),
    }


def to_people(
    found: Findings, commands: Mapping[str, str], again: Callable[[int], str]
) -> RenderableType:
    """Return the values, then each experiment with its runs and the command that trains it.

    Args:
        found, commands: as of `explanation_records`.
        again: function of a run's number that returns the command that repeats it exactly.
    """
    value, experiments = found.value, list(found.experiments.values())
    environment = f"{protocol_name(value.request)} on {experiments[0].spec.data.dataset}"
    if value.seeds.named:
        environment += f", {value.seeds.words}"
    title = f"{value.artifact.label}, {experiments[0].entry.label} ({environment})"
    parts: list[RenderableType] = [
        Text(title, style="bold"),
        Text(),
        listing(VALUE_COLUMNS, value.cells),
    ]
    taken = {METRICS[cell.metric].value for cell in value.cells}
    metrics = [name for name in OF_RUNS if METRICS[name].value in taken]
    for role, experiment in zip(("Runs of", "Compared with"), experiments, strict=False):
        spec, chose = experiment.spec, rate_chosen_with(experiment.spec)
        runs = [
            _run(behind)
            | _texts(behind, metrics)
            | {"epochs": spec.recipe.epochs, "chose_rate": behind.run.seed == chose}
            for behind in experiment.runs
        ]
        finished = all(behind.run.state in DONE for behind in experiment.runs) and runs
        where = " again, in a new folder or with another --db" if finished else ""
        train = f"To train it{where}: {commands[spec.spec_id]}"
        parts += [
            Text(),
            Text(f"{role} {experiment.entry.label}", style="bold"),
            listing(RUN_COLUMNS, runs) if runs else Text("There are none yet."),
            Text(f"Experiment {spec.spec_id}: {describe_experiment(spec)}"),
            Text(train, no_wrap=True, overflow="ignore"),
        ]
        if done := [b.run.id for b in experiment.runs if b.run.state in DONE]:
            others = f" (so, too, {', '.join(map(str, done[1:]))})" if done[1:] else ""
            repeated = f"A run exactly as it was, compared bit by bit{others}: {again(done[0])}"
            parts.append(Text(repeated, no_wrap=True, overflow="ignore"))
    return Group(*parts)


def describe_experiment(spec: Spec) -> str:
    """Return a spec in words: network, data, recipe, precision."""
    return f"{spec.label}, {spec.recipe.label}, {spec.precision}"


def _texts(behind: RunBehind, metrics: Sequence[str]) -> dict[str, str | None]:
    """Return a run's values of some of `OF_RUNS`, with the epochs of accuracies."""
    texts: dict[str, str | None] = dict.fromkeys(OF_RUNS)
    for metric in metrics:
        value, epoch = behind.value_for(metric), behind.epoch_for(metric)
        if value is not None:
            texts[metric] = f"{value:.2f}" + ("" if epoch is None else f" (epoch {epoch})")
    return texts


def _ours(cell: Cell) -> str:
    is_accuracy = cell.metric.startswith("top1")
    return accuracy(cell) if is_accuracy else number(cell, _form(cell), ours=True)


def _form(cell: Cell) -> str:
    return CHANGE if cell.metric == "params_delta" else ".2f"


def _note(record: Record) -> str:
    attempts = f"{record['attempts']} attempts, this is the last" if record["attempts"] > 1 else ""
    chose = "chose the learning rate, claims do not count it" if record["chose_rate"] else ""
    return "; ".join(filter(None, (record["reason"], attempts, chose)))


OF_RUNS = ("top1", "top1_last", "params")  # metrics of single runs
VALUE_COLUMNS = (
    Column("metric", attrgetter("metric")),
    Column("unit", attrgetter("unit")),
    Column("paper", lambda cell: number(cell, _form(cell), ours=False), right=True),
    Column("ours", _ours, right=True),
    Column("how", attrgetter("how")),
)
RUN_COLUMNS = (
    Column("run", field("run"), right=True),
    Column("seed", field("seed"), right=True),
    Column("state", field("state")),
    Column("best %", field("top1"), right=True),
    Column("last %", field("top1_last"), right=True),
    Column("#P (M)", field("params"), right=True),
    Column("epochs", lambda r: f"{r['epochs_done']}/{r['epochs']}", right=True),
    Column("host", field("host")),
    Column("device", field("device")),
    Column("torch", field("torch")),
    Column("commit", lambda r: commit_text(r["git_commit"], r["git_clean"])),
    Column("ended (UTC)", field("ended_at", "{:%Y-%m-%d %H:%M:%S}")),
    Column("note", _note),
)
