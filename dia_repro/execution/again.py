"""A run trained once more, exactly as it was, and compared with itself."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dia_repro.data import source_of
from dia_repro.errors import DiaReproError, UsageError
from dia_repro.execution.dialogue import Dialogue
from dia_repro.execution.executors import Worked, find_executor
from dia_repro.execution.maintenance import checkpoint_store
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
COMMIT, VERSION = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9][\w.+!-]*")
PACKAGE = re.compile(r"[A-Za-z0-9][\w.-]*==[0-9][\w.+!-]*")
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # but tabs and line ends


class NotRepeatableError(UsageError):
    """The run cannot be trained again here."""


class RunFailedError(DiaReproError):
    """A repetition was not trained to its end."""


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

    What was not recorded, or is nothing that dia-repro records, is said in a comment: a database
    may come from anywhere, and people copy these lines into a shell.
    """
    last = _last_attempt(run)
    commit, changes = str(last["git_commit"] or ""), str(last["git_diff"] or "")
    lines = ["# the commit was not recorded: an installed package, or a checkout without git"]
    if COMMIT.fullmatch(commit):
        lines = [
            "# in another clone of the repository: a checkout replaces all of its files",
            f"git checkout {commit}",
        ]
    if changes and CONTROLS.search(changes):
        lines.append(
            "# the recorded changes have control characters: see 'runs show --format json'"
        )
    elif changes:
        end = f"END-{hashlib.sha256(changes.encode()).hexdigest()[:16]}"
        lines += [f"git apply <<'{end}'", changes.removesuffix("\n"), end]
        lines.append("# files that git did not track are not in these changes")
    elif last["git_clean"] is False:
        lines.append("# the checkout had changes that were not recorded")
    named = str(last["packages"] or "").split()
    packages = [text for text in named if PACKAGE.fullmatch(text)]
    if VERSION.fullmatch(str(last["python"])):
        lines.append(f"# Python {last['python']}")
    torch = str(last["torch"])
    if not packages and VERSION.fullmatch(torch):
        lines.append("# no other version was recorded")
        packages = [f"torch=={torch}"]
    # "+cu132", "+cpu": PyPI has one build of a version, and does not know it by this name.
    if builds := [text for text in packages if "+" in text]:
        lines.append(f"# the builds were {', '.join(builds)}: others are at PyTorch's own index")
    packages = [text.partition("+")[0] for text in packages]
    command = str(last["command"])
    if command.isprintable():  # and in one line
        lines += [
            "# a version without 'runs again', or with another schema than this database's, trains",
            f"# with its own command into a new database; the run's was: {command}",
        ]
    return [*lines, f"pip install {' '.join([*packages, '-e .'])}"]


def train_again(
    run: RunDetail,
    target: str,
    data: DataLocation,
    dialogue: Dialogue,
    command: str,
) -> tuple[Database, Worked]:
    """Train a run's experiment with its seed into another database.

    Threads, kind of device and deterministic mode are those of its last attempt. A repetition that
    was interrupted goes on.

    Args:
        target: location of the other database.
        data: where its data are.

    Returns:
        The other database, and how the training ended.

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
        # A CPU is deterministic without being asked to.
        deterministic=device is Device.CUDA and bool(last["deterministic"]),
    )
    return database, executor.work(database, jobs, dialogue)


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
