"""Slurm executor: runs as the tasks of a job array, submitted by submitit.

A task saves its run before its time is over, and is queued again, as often as it takes. The command
that submits tasks does not wait for them: what they do is in the results database.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from submitit.slurm.slurm import SlurmExecutor

from dia_repro.errors import UsageError
from dia_repro.execution.dialogue import Dialogue
from dia_repro.execution.executors import Executor, Worked, register
from dia_repro.execution.machine import Machine
from dia_repro.execution.messages import Job
from dia_repro.execution.options import Device, Resources
from dia_repro.execution.slurm_jobs import SlurmError, submit
from dia_repro.experiments.names import DataLocation
from dia_repro.experiments.spec import DataSpec
from dia_repro.interrupts import Interrupted
from dia_repro.results.backends import sqlite_path
from dia_repro.results.database import Database
from dia_repro.training.environment import SAFE_PATH
from dia_repro.training.store import Store

# Threads that prepare batches for a GPU, where `--slurm cpus-per-task` says nothing.
CPUS_PER_GPU = 4
DEFAULT_MINUTES = 24 * 60
# Saving takes seconds; a network may be slow to reach.
SECONDS_TO_SAVE = 180
SETTLED = {"array", "signal", "ntasks", "ntasks-per-node", "nodes", "output", "error", "no-requeue"}
SETTLED |= {"array-parallelism", "signal-delay-s"}  # submitit's names, not sbatch's
TIME = re.compile(r"(?:(?P<days>\d{1,4})-)?(?P<parts>\d{1,7}(?::\d{1,7}){0,2})", re.ASCII)


@register("slurm")
class Slurm(Executor):
    """Tasks of a Slurm job array, which are submitted and left alone."""

    options = frozenset({"jobs", "gpus_per_run", "slurm"})
    shares_database = True

    def __init__(self, resources: Resources, _dialogue: Dialogue) -> None:
        on_cpu = resources.device is Device.CPU
        if on_cpu and resources.gpus_per_run:
            raise UsageError("--gpus-per-run and --device cpu do not go together")
        gpus = 0 if on_cpu else resources.gpus_per_run or 1
        options = dict(_name_and_value(text) for text in resources.slurm)
        self.at_once = resources.jobs
        self.parameters = sbatch_parameters(options, gpus, self.at_once)
        machine = Machine(("cpu" if on_cpu else "cuda:0",), self.parameters["cpus_per_task"])
        super().__init__(machine, gpus or 1)

    def room(self, runs: int) -> int:
        """Return as many runs as Slurm starts: for estimates all, unless `--jobs` says less."""
        return min(self.at_once or runs, runs)

    def on_one_machine(self, at_once: int) -> int:
        """Return 1: a task has its processors to itself."""
        del at_once
        return 1

    def check(
        self, data: Sequence[DataSpec], location: DataLocation, store: Store, dialogue: Dialogue
    ) -> None:
        """Look on this machine at what nodes are to find too."""
        if SlurmExecutor.affinity() < 0:
            raise SlurmError("there is no Slurm here: no srun on the path")
        super().check(data, location, store, dialogue)

    def work(self, database: Database, jobs: Sequence[Job], dialogue: Dialogue) -> Worked:
        """Submit the runs, and say how to follow and to stop them."""
        # submitit's files and the tasks' output: next to a SQLite file, or in the working folder.
        file = (sqlite_path(database.location) or Path("runs.db")).absolute()
        folder, in_turn = file.with_name(f"{file.stem}-slurm"), self.at_once is not None
        try:
            numbers = submit(jobs, self.parameters, folder, in_turn=in_turn)
        except (Interrupted, KeyboardInterrupt):
            dialogue.notice(
                "Interrupted while jobs were submitted: some may be in the queue. 'squeue --me' "
                "lists them, 'scancel NUMBER' stops one."
            )
            raise
        dialogue.notice(
            f"Submitted to Slurm as job {', '.join(numbers)}. 'dia-repro runs watch' follows it, "
            f"'scancel {' '.join(numbers)}' stops it; this command again goes on with what is left."
        )
        return Worked({}, submitted=True)


def _name_and_value(text: str) -> tuple[str, str | bool]:
    """Return an option by the name that `sbatch` has for it, without dashes, and its value."""
    name, equals, value = text.partition("=")
    if not name.strip("-") or " " in name or (equals and not value):
        raise UsageError(f"--slurm {text}: an option of sbatch, as NAME=VALUE or NAME")
    if not text.isprintable():  # a line feed would begin another line of sbatch's script
        raise UsageError(f"--slurm {text!r}: an option of sbatch has no control characters")
    return name.lstrip("-").replace("_", "-"), value if equals else True


def sbatch_parameters(
    options: Mapping[str, str | bool], gpus: int, at_once: int | None = None
) -> dict[str, Any]:
    """Return the options of a job array of one-node tasks, by submitit's names.

    Args:
        options: options of `sbatch`, without their dashes, e.g. {"partition": "gpu"}; True for one
            that takes no value, e.g. {"exclusive": True}.
        gpus: GPUs of each task; 0 trains on processors.
        at_once: tasks at a time; None leaves it to Slurm.

    Raises:
        UsageError: an option that is settled here, or that cannot have its value.
    """
    settled = SETTLED & options.keys()
    if settled:
        raise UsageError(f"--slurm {min(settled)} is settled already")
    others = dict(options)
    cpus = str(others.pop("cpus-per-task", CPUS_PER_GPU * gpus or 1))
    if not re.fullmatch("[1-9][0-9]{0,3}", cpus):
        raise UsageError(f"--slurm cpus-per-task={cpus}: a number from 1 to 9999")
    own = {
        "job_name": "dia-repro",
        "gpus_per_node": gpus or None,
        "wckey": None,  # submitit's own is refused where these are registered
    }
    return {
        **{name: others.pop(name.replace("_", "-"), value) for name, value in own.items()},
        "time": _minutes(str(others.pop("time", DEFAULT_MINUTES))),
        "nodes": 1,
        "ntasks_per_node": 1,
        "cpus_per_task": int(cpus),
        "signal_delay_s": SECONDS_TO_SAVE,
        "array_parallelism": at_once or 10_000,
        "setup": [f"export {name}={value}" for name, value in SAFE_PATH.items()],
        # Since Slurm 22.05 srun does not take it over from the job.
        "srun_args": [f"--cpus-per-task={cpus}"],
        "additional_parameters": {"requeue": True, **others},
    }


def _minutes(text: str) -> int:
    """Return what `sbatch --time` reads: minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S."""
    match = TIME.fullmatch(text)
    if match is None:
        raise UsageError(f"--slurm time={text}: minutes, or D-HH:MM:SS")
    parts = [int(part) for part in match["parts"].split(":")]
    units = (3600, 60, 1) if match["days"] or len(parts) == 3 else (60, 1)
    seconds = sum(part * unit for part, unit in zip(parts, units, strict=False))
    return int(match["days"] or 0) * 1440 + -(-seconds // 60)
