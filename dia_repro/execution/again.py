"""A run trained once more, exactly as it was, and compared with itself."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dia_repro.data import source_of
from dia_repro.errors import UsageError
from dia_repro.execution.dialogue import Dialogue
from dia_repro.execution.executors import find_executor
from dia_repro.execution.maintenance import checkpoint_store
from dia_repro.execution.messages import Outcome
from dia_repro.execution.options import Device, Resources
from dia_repro.execution.planning import PlannedRun, make_jobs
from dia_repro.experiments.names import DataLocation
from dia_repro.experiments.spec import Spec
from dia_repro.results.comparison import PROVENANCE_FIELDS
from dia_repro.results.database import Database, open_database
from dia_repro.results.queries import RunDetail, all_runs, run_detail, runs_of
from dia_repro.results.schema import DONE

# Columns of provenance that decide nothing about the result.
INCIDENTAL = {"started_at", "ended_at", "wall_seconds", "peak_memory_bytes", "host", "command"}
WHAT_DIFFERS = tuple(name for name in PROVENANCE_FIELDS if name not in INCIDENTAL)
SHORT = 60


class NotRepeatableError(UsageError):
    """The run cannot be trained again here."""


@dataclass(frozen=True)
class Comparison:
    """A run and its repetition.

    Attributes:
        environment: what differs between their environments, in words.
        outcome: where their results part, in words; empty where all metrics are the same.
    """

    environment: tuple[str, ...]
    outcome: str


def recipe(run: RunDetail) -> list[str]:
    """Return shell commands that restore the code and the packages of a run's last attempt.

    What was not recorded is said in a comment.
    """
    last = _last_attempt(run)
    commit, packages, changes = last["git_commit"], last["packages"], last["git_diff"]
    lines = [f"git checkout {commit}" if commit else f"# dia-repro {last['package']}, no checkout"]
    if changes:
        lines += ["git apply <<'END_OF_CHANGES'", str(changes), "END_OF_CHANGES"]
    elif last["git_clean"] is False:
        lines.append("# the checkout had changes that were not recorded")
    lines.append(f"# Python {last['python']}")
    if packages:
        lines.append(f"pip install {shlex.join(str(packages).split())} -e .")
    else:
        lines.append(f"pip install torch=={last['torch']} -e .  # no other version was recorded")
    return lines


def train_again(
    run: RunDetail,
    target: str,
    data: DataLocation,
    dialogue: Dialogue,
    command: str,
) -> Database | None:
    """Train a run's experiment with its seed into another database; return that database.

    Threads, kind of device and deterministic mode are those of its last attempt. A repetition that
    was interrupted goes on.

    Args:
        target: location of the other database.
        data: where its data are.

    Returns:
        None if it was interrupted or failed.

    Raises:
        NotRepeatableError: the run has no result, or the other database has the run itself.
        NoGPUError: it ran on a GPU, and there is none here.
    """
    spec, last = Spec.from_json(run.spec_json), _last_attempt(run)
    if run.summary.state not in DONE:
        raise NotRepeatableError(f"run {run.summary.id} is {run.summary.state}: it has no result")
    device = Device.CPU if last["cuda"] is None else Device.CUDA
    executor = find_executor(Resources(device=device, jobs=1), dialogue)
    known = source_of(spec.data.dataset).known
    images = known.training_images if known else None  # for the display of progress alone
    planned = PlannedRun((), images or 1, spec, run.summary.seed, None)
    database = open_database(target, create=False)
    if any(found.uid == run.summary.uid for found in all_runs(database)):
        raise NotRepeatableError(f"{database.name} has run {run.summary.id} itself: name another")
    store = checkpoint_store(database)
    executor.check([spec.data], data, store, dialogue)
    database = open_database(target, create=True)
    jobs = make_jobs(
        [planned],
        database,
        executor.machine,
        int(last["threads"]),
        data,
        command,
        store,
        deterministic=bool(last["deterministic"]),
    )
    worked = executor.work(database, jobs, dialogue)
    ended = {end.outcome for end in worked.ended.values()}
    done = ended and ended <= {Outcome.FINISHED, Outcome.DIVERGED, Outcome.DONE_BEFORE}
    return database if done else None


def compare(run: RunDetail, database: Database) -> Comparison:
    """Compare a run with its repetition in another database, bit by bit."""
    (again,) = (
        found
        for found in runs_of(database, [run.summary.spec_id])[run.summary.spec_id]
        if found.seed == run.summary.seed
    )
    other = run_detail(database, again.id)
    before, after = _last_attempt(run), _last_attempt(other)
    environment = (
        f"{name} {_short(before[name])}, now {_short(after[name])}"
        for name in WHAT_DIFFERS
        if before[name] is not None and before[name] != after[name]
    )
    return Comparison(tuple(environment), next(_parted(run, other), ""))


def _parted(run: RunDetail, other: RunDetail) -> Iterator[str]:
    for own, theirs in zip(run.epochs, other.epochs, strict=False):
        for name, value in own.items():
            # As text, in which nan equals nan. The duration is no result.
            if name != "seconds" and repr(value) != repr(theirs[name]):
                yield f"epoch {own['epoch']}: {name} {value}, now {theirs[name]}"
    before, after = (
        (found.summary.state.value, len(found.epochs), found.summary.reason)
        for found in (run, other)
    )
    if before != after:
        yield (
            f"{before[0]} after {before[1]} epochs ({before[2] or 'no remark'}), now {after[0]} "
            f"after {after[1]} ({after[2] or 'no remark'})"
        )


def _last_attempt(run: RunDetail) -> Mapping[str, Any]:
    if not run.provenance:
        raise NotRepeatableError(f"run {run.summary.id} was never begun")
    return run.provenance[-1]


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= SHORT else f"{text[:SHORT]}…"
