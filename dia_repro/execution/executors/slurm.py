"""Slurm executor: runs as the tasks of a job array, submitted by submitit.

Before its time is over a task has its run saved and is queued again, as often as it takes. Whoever
submitted it need not wait: what a task does is in the results database.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from submitit.core import utils
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.helpers import DelayedSubmission
from submitit.slurm.slurm import SlurmExecutor

from dia_repro.errors import AbsentError, DiaReproError, UsageError
from dia_repro.execution.dialogue import Dialogue
from dia_repro.execution.executors import Executor, Worked, register
from dia_repro.execution.executors.local import LocalSupervisor
from dia_repro.execution.machine import Machine, Slots
from dia_repro.execution.messages import Job, Message, Outcome, describe
from dia_repro.execution.options import Device, Resources
from dia_repro.experiments.names import DataLocation
from dia_repro.experiments.spec import DataSpec
from dia_repro.interrupts import Interrupted
from dia_repro.rendering.escaping import visible
from dia_repro.results.backends import sqlite_path
from dia_repro.results.database import Database, open_database
from dia_repro.training.environment import SAFE_PATH
from dia_repro.training.store import Store

# Threads that prepare batches for a GPU, where `--slurm cpus-per-task` says nothing.
CPUS_PER_GPU = 4
NAME = "dia-repro"
DEFAULT_MINUTES = 24 * 60
# Saving takes seconds; a network may be slow to reach.
SECONDS_TO_SAVE = 180
# Of a run that outlasts a job's time: how often it is queued again.
TIMES_QUEUED_AGAIN = 1000
# Tasks of an array, where Slurm does not say: its own default.
MAX_ARRAY_SIZE = 1001
# Variables that say where Slurm is, and options that people set once for all their jobs.
OF_THE_SITE = {"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT"}
OF_ALL_JOBS = {"account", "clusters", "constraint", "partition", "qos", "reservation", "wckey"}
OF_A_JOB = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SUBMITIT_")
SETTLED = {"array", "signal", "ntasks", "ntasks-per-node", "nodes", "output", "error", "no-requeue"}
SETTLED |= {"array-parallelism", "signal-delay-s"}  # submitit's names, not sbatch's
TIME = re.compile(r"(?:(?P<days>\d{1,4})-)?(?P<parts>\d{1,7}(?::\d{1,7}){0,2})", re.ASCII)


class SlurmError(AbsentError):
    """There is no Slurm here, or it does not take the jobs."""


class UnfitTaskError(DiaReproError):
    """The node that a task was sent to cannot do it."""


@dataclass(frozen=True)
class Submission:
    """What to ask Slurm for.

    Attributes:
        at_once: tasks at a time; None leaves it to Slurm.
        gpus: of each task; 0 trains on processors.
        cpus: of each task.
        options: of `sbatch`, without their dashes, e.g. {"partition": "gpu"}; True for an option
            that takes no value, e.g. {"exclusive": True}.
    """

    at_once: int | None
    gpus: int
    cpus: int
    options: Mapping[str, str | bool] = field(default_factory=dict)

    @property
    def named(self) -> dict[str, str | bool]:
        """The options by the names that `sbatch` has for them."""
        return {_sbatch_name(name): value for name, value in self.options.items()}

    def parameters(self) -> dict[str, Any]:
        """By submitit's names.

        Raises:
            UsageError: an option that is settled here, or no length of time.
        """
        options = self.named
        minutes = _minutes(str(options.pop("time"))) if "time" in options else DEFAULT_MINUTES
        settled = SETTLED & set(options)
        if settled:
            raise UsageError(f"--slurm {min(settled)} is settled already")
        own: dict[str, Any] = {
            "job_name": NAME,
            "time": minutes,
            "nodes": 1,
            "ntasks_per_node": 1,
            "cpus_per_task": self.cpus,
            "gpus_per_node": self.gpus or None,
            "signal_delay_s": SECONDS_TO_SAVE,
            "array_parallelism": self.at_once or 10_000,
            "wckey": None,  # submitit's own is refused where these are registered
        }
        given = {name for name in options if name.replace("-", "_") in own}
        own |= {name.replace("-", "_"): options.pop(name) for name in given}
        # Since Slurm 22.05 srun does not take it over from the job.
        own["setup"] = [f"export {name}={value}" for name, value in SAFE_PATH.items()]
        own["srun_args"] = [f"--cpus-per-task={own['cpus_per_task']}"]
        return {**own, "additional_parameters": {"requeue": True, **options}}


@register("slurm")
class Slurm(Executor):
    """Tasks of a Slurm job array, which are submitted and left alone."""

    options = frozenset({"jobs", "gpus_per_run", "slurm"})
    shares_database = True

    def __init__(self, resources: Resources, dialogue: Dialogue) -> None:
        del dialogue
        sbatch = dict(_name_and_value(text) for text in resources.slurm)
        on_cpu = resources.device is Device.CPU
        if on_cpu and resources.gpus_per_run:
            raise UsageError("--gpus-per-run and --device cpu do not go together")
        gpus = 0 if on_cpu else resources.gpus_per_run or 1
        cpus = str(sbatch.pop("cpus-per-task", CPUS_PER_GPU * gpus or 1))
        if not re.fullmatch("[1-9][0-9]{0,3}", cpus):
            raise UsageError(f"--slurm cpus-per-task={cpus}: a number from 1 to 9999")
        self.submission = Submission(resources.jobs, gpus, int(cpus), sbatch)
        self.submission.parameters()  # refuses what it cannot be
        super().__init__(Machine(("cpu" if on_cpu else "cuda:0",), int(cpus)), gpus or 1)

    def room(self, runs: int) -> int:
        """Return as many runs as Slurm starts: for estimates all, unless `--jobs` says less."""
        return min(self.submission.at_once or runs, runs)

    def on_one_machine(self, at_once: int) -> int:
        """Return 1: a task has its processors to itself."""
        del at_once
        return 1

    def check(
        self, data: Sequence[DataSpec], location: DataLocation, store: Store, dialogue: Dialogue
    ) -> None:
        """Look on this machine at what nodes are to find too."""
        check_slurm()
        super().check(data, location, store, dialogue)

    def work(
        self,
        database: Database,
        jobs: Sequence[Job],
        weights: Mapping[int, int],
        dialogue: Dialogue,
    ) -> Worked:
        """Submit the runs, and say how to follow and to stop them."""
        del weights
        try:
            numbers = submit(jobs, self.submission, slurm_folder(database.location))
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
    name, equals, value = text.partition("=")
    if not name.strip("-") or " " in name or (equals and not value):
        raise UsageError(f"--slurm {text}: an option of sbatch, as NAME=VALUE or NAME")
    if not text.isprintable():  # a line feed would begin another line of sbatch's script
        raise UsageError(f"--slurm {text!r}: an option of sbatch has no control characters")
    return _sbatch_name(name), value if equals else True


def _sbatch_name(name: str) -> str:
    return name.lstrip("-").replace("_", "-")


def _minutes(text: str) -> int:
    """What `sbatch --time` reads: minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S."""
    match = TIME.fullmatch(text)
    if match is None:
        raise UsageError(f"--slurm time={text}: minutes, or D-HH:MM:SS")
    parts = [int(part) for part in match["parts"].split(":")]
    if match["days"] is not None:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
        return int(match["days"]) * 1440 + hours * 60 + minutes + (seconds > 0)
    hours, minutes, seconds = {1: (0, *parts, 0), 2: (0, *parts)}.get(len(parts), tuple(parts))
    return hours * 60 + minutes + (seconds > 0)


def check_slurm() -> None:
    """Raise `SlurmError` where there is none."""
    if SlurmExecutor.affinity() < 0:
        raise SlurmError("there is no Slurm here: no srun on the path")


def submit(jobs: Sequence[Job], submission: Submission, folder: Path) -> tuple[str, ...]:
    """Hand runs to Slurm, in their order: in one job array, or several where one is too large.

    Where tasks at a time are bounded, each array waits for the one before it.

    Args:
        folder: for submitit's files and the tasks' output; all nodes reach it.

    Returns:
        The jobs' numbers.

    Raises:
        SlurmError: there is no Slurm, or it refuses.
    """
    parameters, numbers = submission.parameters(), list[str]()
    tasks = [Task(_everywhere(job, submission.cpus)) for job in jobs]
    size = max_array_size()
    with _as_from_no_job(submission.named):
        for first in range(0, len(tasks), size):
            waiting = numbers and submission.at_once
            asked = _after(parameters, numbers[-1]) if waiting else parameters
            try:
                numbers.append(_submit_array(tasks[first : first + size], asked, folder))
            except SlurmError as error:
                if not numbers:
                    raise
                raise SlurmError(
                    f"{error}; the first {first:,} runs are submitted as job {', '.join(numbers)}"
                ) from error
    return tuple(numbers)


def _submit_array(tasks: Sequence[Task], parameters: Mapping[str, Any], folder: Path) -> str:
    """Return the number of the job that does so many tasks."""
    try:
        _make_private(folder)
        executor = SlurmExecutor(folder, max_num_timeout=TIMES_QUEUED_AGAIN)
        executor.update_parameters(**parameters)
        with _killable_commands(), executor.batch():
            submitted = [executor.submit(task) for task in tasks]
    except (FailedJobError, FailedSubmissionError) as error:
        raise SlurmError(_complaint(error)) from error
    except OSError as error:
        place = error.filename or folder
        raise SlurmError(f"cannot submit to Slurm: {place}: {error.strerror or error}") from error
    return str(submitted[0].job_id).split("_")[0]


class _Command(utils.CommandFunction):
    """A command of submitit's that does not outlast an exception of a signal.

    Submitit's own waits for its end even then, and `sbatch` may wait for a controller for hours.
    """

    def __call__(self) -> str:
        """Return what the command prints.

        Raises:
            FailedJobError: it fails; the message is what it says.
        """
        try:
            done = subprocess.run(
                self.command, capture_output=True, encoding="utf-8", errors="replace", check=True
            )
        except subprocess.CalledProcessError as error:
            print(error.stderr, end="", file=sys.stderr)  # all of it; the message has one line
            raise FailedJobError(error.stderr.strip()) from error
        return done.stdout.strip()


@contextmanager
def _killable_commands() -> Iterator[None]:
    before = utils.CommandFunction
    utils.CommandFunction = _Command  # type: ignore[misc]
    try:
        yield
    finally:
        utils.CommandFunction = before  # type: ignore[misc]


def _make_private(folder: Path) -> None:
    """Make a folder that this user alone can read: jobs are kept there, with a database's password.

    Raises:
        OSError: it cannot be made.
        SlurmError: it is another user's, who may have put files there that tasks would load.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise SlurmError(
            f"{folder} is a link or another user's, and jobs are kept there with the database's "
            "password: move it away"
        )
    if stat.S_IMODE(status.st_mode) & ~stat.S_IRWXU:
        folder.chmod(stat.S_IRWXU)


def _complaint(error: Exception) -> str:
    """Return what `sbatch` said where it failed, or why its answer cannot be read."""
    if isinstance(error.__cause__, subprocess.CalledProcessError):
        lines = str(error).splitlines() or [str(error.__cause__)]
        return f"Slurm does not take the jobs: {lines[-1].strip()}"
    reason = str(error.__cause__ or error).splitlines()[0]
    return f"jobs may be submitted: see 'squeue --me'; no job number came from sbatch ({reason})"


def _after(parameters: Mapping[str, Any], job: str) -> dict[str, Any]:
    """The same for a job that begins when all tasks of another have ended."""
    options = dict(parameters["additional_parameters"])
    asked = [options["dependency"]] if "dependency" in options else []
    options["dependency"] = ",".join([*asked, f"afterany:{job}"])
    return {**parameters, "additional_parameters": options}


def max_array_size() -> int:
    """Return how many tasks an array may have on this cluster, at least 1."""
    try:
        command = ["scontrol", "show", "config"]
        config = subprocess.run(command, capture_output=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return MAX_ARRAY_SIZE
    known = re.search(rb"^MaxArraySize\s*=\s*(\d{1,9})", config, re.MULTILINE)
    return max(1, int(known[1])) if known else MAX_ARRAY_SIZE


@contextmanager
def _as_from_no_job(options: Mapping[str, object]) -> Iterator[None]:
    """Hide the variables of a job that this process is part of: `sbatch` and tasks would use them.

    Variables of `sbatch` go before what its script says, so that of those that people set for all
    their jobs only the ones stay whose option is not given.
    """
    stay = OF_THE_SITE | {f"SBATCH_{name.upper()}" for name in OF_ALL_JOBS - set(options)}
    hidden = {n: v for n, v in os.environ.items() if n.startswith(OF_A_JOB) and n not in stay}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


def _everywhere(job: Job, threads: int) -> Job:
    """The same with a node's threads, and paths that hold in any working folder."""
    folder, file = job.data.folder, sqlite_path(job.database)
    return replace(
        job,
        threads=threads,
        data=replace(
            job.data,
            root=job.data.root.absolute(),
            folder=folder.absolute() if folder else None,
        ),
        database=str(file.absolute()) if file else job.database,
        checkpoints=job.checkpoints.absolute(),
    )


class Task:
    """One run on a node, as submitit calls it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.executor: LocalSupervisor | None = None

    def __call__(self) -> str:
        """Train, and say how it ended.

        Raises:
            UnfitTaskError: the node has no GPU for it, or the run failed.
        """
        import torch

        gpus = torch.cuda.device_count()
        if self.job.device != "cpu" and gpus < self.job.processes:
            raise UnfitTaskError(f"{self.job.label} needs {self.job.processes} GPUs of {gpus}")
        database = open_database(self.job.database, create=False)
        slots = Slots([self.job.device], 1)
        self.executor = LocalSupervisor(database, slots, _say)
        ended = self.executor.run([self.job]).get(self.job.run_id)
        if ended is not None and ended.outcome is Outcome.FAILED:
            raise UnfitTaskError(f"{self.job.label} failed: {ended.detail}")
        return ended.outcome.value if ended else Outcome.INTERRUPTED.value

    def checkpoint(self) -> DelayedSubmission:
        """Called when the task's time is over: save, and be queued again."""
        if self.executor is not None:
            self.executor.stop_now()
        return DelayedSubmission(Task(self.job))


def _say(job: Job, message: Message) -> None:
    line = describe(job, message)
    if line is None:
        return
    # Names of folders and hosts may hold control sequences, or characters that the log cannot.
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    shown = visible(line).encode(encoding, "replace").decode(encoding)
    with suppress(OSError):  # a log that cannot be written, as on a full disk, ends no training
        print(shown, flush=True)


def slurm_folder(database: str) -> Path:
    """For submitit's files and tasks' output: beside a SQLite file, or in the working folder."""
    file = sqlite_path(database) or Path("runs.db")
    return file.absolute().with_name(f"{file.stem}-slurm")
