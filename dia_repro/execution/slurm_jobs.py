"""Job arrays of Slurm: their submission through submitit, and the task that trains one run."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from submitit.core import utils
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.helpers import DelayedSubmission
from submitit.slurm.slurm import SlurmExecutor

from dia_repro.errors import AbsentError, DiaReproError, UsageError
from dia_repro.execution.executors.local import LocalSupervisor
from dia_repro.execution.machine import Slots
from dia_repro.execution.messages import Job, Message, Outcome, describe
from dia_repro.rendering.escaping import visible
from dia_repro.results.database import open_database

# How often a run that outlasts a job's time is queued again.
TIMES_QUEUED_AGAIN = 1000
# Slurm's own default, for a cluster that does not tell its own.
MAX_ARRAY_SIZE = 1001
# Variables that say where Slurm is, and options that people set once for all their jobs.
OF_THE_SITE = {"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT"}
OF_ALL_JOBS = {"account", "clusters", "constraint", "partition", "qos", "reservation", "wckey"}
OF_A_JOB = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SUBMITIT_")


class SlurmError(AbsentError):
    """There is no Slurm here, or it does not take the jobs."""


class UnfitTaskError(DiaReproError):
    """The node that a task was sent to cannot do it."""


class StoppedTaskError(DiaReproError):
    """A signal of the cluster stopped a task before its run was done."""


def submit(
    jobs: Sequence[Job], parameters: Mapping[str, Any], folder: Path, *, in_turn: bool = False
) -> tuple[str, ...]:
    """Submit runs in one job array, or several where one is too large; return the jobs' numbers.

    Args:
        parameters: see `sbatch_parameters`.
        folder: for submitit's files and the tasks' output; all nodes reach it.
        in_turn: whether each array waits for the one before it.

    Raises:
        SlurmError: there is no Slurm, or it refuses.
        UsageError: the folder's path has a percent sign or a control character.
    """
    _check_name(folder)
    numbers: list[str] = []
    tasks = [Task(job.elsewhere(threads=parameters["cpus_per_task"])) for job in jobs]
    size = max_array_size()
    with _as_from_no_job(parameters):
        for first in range(0, len(tasks), size):
            asked = _after(parameters, numbers[-1]) if numbers and in_turn else parameters
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
    """Submit tasks as one job, and return its number."""
    try:
        _make_private(folder)
        executor = SlurmExecutor(folder, max_num_timeout=TIMES_QUEUED_AGAIN)
        executor.update_parameters(**parameters)
        with _killable_commands(), executor.batch():
            submitted = [executor.submit(task) for task in tasks]
    except FailedJobError as error:
        complaint = (str(error) or str(error.__cause__)).splitlines()[-1].strip()
        raise SlurmError(f"Slurm does not take the jobs: {complaint}") from error
    except FailedSubmissionError as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise SlurmError(
            f"jobs may be submitted: see 'squeue --me'; no job number came from sbatch ({reason})"
        ) from error
    except OSError as error:
        path = error.filename or folder
        raise SlurmError(f"cannot submit to Slurm: {path}: {error.strerror or error}") from error
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


def _check_name(folder: Path) -> None:
    """Refuse a folder whose name Slurm or submitit would read as another one.

    Both put a job's numbers into it for "%j" and the like, so the jobs, with a database's password,
    would lie elsewhere; a line feed would begin another line of sbatch's script.

    Raises:
        UsageError: it has a percent sign or a character that is not printable.
    """
    path = str(folder.absolute())
    if "%" in path or not path.isprintable():
        raise UsageError(
            f"Slurm cannot use the folder {path!r}: its path has a percent sign or a "
            "control character; work in another folder, or give the database another name"
        )


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
    folder.chmod(stat.S_IRWXU)


def _after(parameters: Mapping[str, Any], job: str) -> dict[str, Any]:
    """Return the parameters of a job that begins when all tasks of another have ended."""
    options = parameters["additional_parameters"]
    asked = [options["dependency"]] if "dependency" in options else []
    dependency = ",".join([*asked, f"afterany:{job}"])
    return {**parameters, "additional_parameters": {**options, "dependency": dependency}}


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
def _as_from_no_job(parameters: Mapping[str, Any]) -> Iterator[None]:
    """Hide the variables of a job that this process is part of: `sbatch` and tasks would use them.

    Variables of `sbatch` go before what its script says, so that of those that people set for all
    their jobs only the ones stay whose option is not given.
    """
    asked = {**parameters, **parameters["additional_parameters"]}
    stay = OF_THE_SITE | {f"SBATCH_{n.upper()}" for n in OF_ALL_JOBS if asked.get(n) is None}
    hidden = {n: v for n, v in os.environ.items() if n.startswith(OF_A_JOB) and n not in stay}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


class Task:
    """One run on a node; submitit pickles it, and calls it there."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.supervisor: LocalSupervisor | None = None

    def __call__(self) -> str:
        """Train, and return how the run ended.

        Raises:
            UnfitTaskError: the node has too few GPUs, or the run failed.
            StoppedTaskError: a signal stopped it; a task that ended well would not be queued again.
        """
        import torch

        gpus = torch.cuda.device_count()
        if self.job.device != "cpu" and gpus < self.job.processes:
            raise UnfitTaskError(f"{self.job.label} needs {self.job.processes} GPUs of {gpus}")
        database = open_database(self.job.database, create=False)
        self.supervisor = LocalSupervisor(database, Slots([self.job.device], 1), print_message)
        ended = self.supervisor.run([self.job]).get(self.job.run_id)
        if ended is None or ended.outcome is Outcome.INTERRUPTED:
            raise StoppedTaskError(f"{self.job.label} is saved and goes on with the same command")
        if ended.outcome is Outcome.FAILED:
            raise UnfitTaskError(f"{self.job.label} failed: {ended.detail}")
        return ended.outcome.value

    def checkpoint(self) -> DelayedSubmission:
        """Save the run, and queue it again; called when the task's time is over."""
        if self.supervisor is not None:
            self.supervisor.stop_now()
        return DelayedSubmission(Task(self.job))


def print_message(job: Job, message: Message) -> None:
    """Print a message to the task's log, unless it comes many times an epoch."""
    line = describe(job, message)
    if line is None:
        return
    # Names of folders and hosts may hold control sequences, or characters that the log cannot.
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    shown = visible(line).encode(encoding, "replace").decode(encoding)
    with suppress(OSError):  # a log that cannot be written, as on a full disk, ends no training
        print(shown, flush=True)
