"""Campaign: the runs that artifacts need; it plans, checks, asks and trains.

`dia-repro run`, `dia_repro.run` and `dia_repro.plan` are made of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dia_repro.artifacts import TableArtifact, choose
from dia_repro.data.batches import check_batches
from dia_repro.errors import ABSENT, DONE, INTERRUPTED, RUN_FAILED, UsageError
from dia_repro.execution.bottleneck import data_limits, with_decoding
from dia_repro.execution.dialogue import Dialogue, duration
from dia_repro.execution.estimates import at_full_speed, wall_seconds, with_estimates
from dia_repro.execution.executors import Executor, Worked, find_executor
from dia_repro.execution.hardware import GPU, find_gpu, with_estimates_on
from dia_repro.execution.maintenance import checkpoint_store, folder_of
from dia_repro.execution.messages import Job, Outcome
from dia_repro.execution.options import DEFAULT_DATA, DEFAULT_DATABASE, Resources, Selection
from dia_repro.execution.planning import Plan, PlannedRun, longest_first, make_jobs, plan_runs
from dia_repro.execution.requests import find_data, request_to_train
from dia_repro.execution.schedules import other_lengths
from dia_repro.experiments.names import DataLocation, Keep, Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.results.backends import network_file_system, sqlite_path
from dia_repro.results.database import open_database
from dia_repro.training.checkpoint import sorted_names
from dia_repro.training.distributed import Group, check_group
from dia_repro.training.probing import check_reachable
from dia_repro.training.provenance import git_problem
from dia_repro.training.store import Store

LONG = 3600.0  # seconds, from which a training is no quick look


@dataclass(frozen=True)
class Summary:
    """Ends of a campaign's runs.

    Attributes:
        database: its location, without secrets.
        needed: number of runs that the artifacts need.
        done_before: number of runs that had a result already.
        outcomes: number of runs by outcome.
        not_started: number of runs that a signal kept from starting.
        stopped: whether a signal stopped the campaign.
        submitted: number of runs that were handed over, and go on by themselves.
    """

    database: str
    needed: int
    done_before: int
    outcomes: Mapping[Outcome, int] = field(default_factory=dict)
    not_started: int = 0
    stopped: bool = False
    submitted: int = 0

    @property
    def exit_code(self) -> int:
        """Return the exit code of the command."""
        if self.stopped:
            return INTERRUPTED
        if self.outcomes.get(Outcome.FAILED):
            return RUN_FAILED
        if self.outcomes.get(Outcome.INTERRUPTED):  # by a signal that came to its worker alone
            return INTERRUPTED
        return ABSENT if self.outcomes.get(Outcome.BUSY) else DONE

    @property
    def sentences(self) -> list[str]:
        """Return what happened, and what to do next."""
        parts = [f"{count} {outcome.value}" for outcome, count in sorted(self.outcomes.items())]
        parts += [f"{self.not_started} not started"] if self.not_started else []
        said = [f"Runs: {', '.join(parts)}."] if parts else []
        advice = {
            INTERRUPTED: "Interrupted; nothing is lost. The same command goes on where this one "
            "stopped.",
            RUN_FAILED: "The same command tries the failed runs again.",
            ABSENT: "Repeat this command when the other process is done.",
        }
        return [*said, advice[self.exit_code]] if self.exit_code in advice else said


@dataclass
class Campaign:
    """The runs that artifacts need, and the executor that trains them.

    Args:
        artifacts: names; `all` for all of them.
        database: location of the results; made when the first run is trained.
        data: folder of downloaded data sets.
        checkpoints: a folder or a URL; by default a folder next to the database.
        dialogue: receives notices and questions; by default a log.
        on: kind of GPU to plan for, which need not be here.

    Raises:
        DiaReproError: an artifact, data or resources do not exist.
    """

    artifacts: Sequence[str]
    selection: Selection = Selection()  # noqa: RUF009 - frozen
    resources: Resources = Resources()  # noqa: RUF009
    database: str = DEFAULT_DATABASE
    data: Path = DEFAULT_DATA
    checkpoints: str | None = None
    dialogue: Dialogue = field(default_factory=Dialogue)
    on: str | None = None

    def __post_init__(self) -> None:
        self.chosen: list[TableArtifact] = choose(self.artifacts, self.selection.attention)
        self._results = open_database(self.database, create=False)
        choice = find_data(self.selection, self.data, self.dialogue)
        self.executor: Executor = find_executor(self.resources, self.dialogue)
        self.gpu = find_gpu(self.on) if self.on else None
        at_once = self.resources.jobs or 1
        machine = self.gpu.machine(at_once) if self.gpu else self.executor.machine
        self.request: Request = request_to_train(self.selection, machine, choice)
        folder = choice.folder if choice else None
        self.location = DataLocation(self.data, folder, self.selection.skip_damaged)

    @cached_property
    def needed(self) -> list[PlannedRun]:
        """Each run that the artifacts need, with its state in the database.

        Raises:
            NoSuchNetworkError: no network has the words of `only`.
            BatchError: runs that would fail half-way through their first epoch.
        """
        seeds = self.selection.trained_seeds
        runs = plan_runs(self._results, self.chosen, self.request, seeds, self.selection.only)
        for run in runs:
            if not run.done and run.training_images:
                check_batches(run.spec, run.training_images)
        return runs

    def plan(self) -> Plan:
        """Return the cost of the runs; trains a few steps to see how fast this machine is."""
        self._say_other_lengths()
        return self._plan_on(self.gpu) if self.gpu else self._plan(self.needed)

    def _plan_on(self, gpu: GPU) -> Plan:
        at_once = self.resources.jobs or 1
        runs = with_estimates_on(gpu, self.needed)
        return Plan(
            tuple(artifact.name for artifact in self.chosen),
            tuple(runs),
            (gpu.name if at_once == 1 else f"{at_once} × {gpu.name}",),
            at_once,
            wall_seconds(runs, at_once),
            sum(run.seconds or 0 for run in runs) / 3600,
            (f"For {gpu.name} by its maker's figures, not by measurement: half to twice as much.",),
        )

    def _plan(self, runs: Sequence[PlannedRun]) -> Plan:
        executor, machine, sentences = self.executor, self.executor.machine, list[str]()
        at_once, gpus = executor.room(sum(not run.done for run in runs)), executor.gpus_of_a_run
        together = executor.on_one_machine(at_once)
        runs = with_estimates(runs, self._results, machine, together, gpus)
        if executor.data_is_here:
            limits = data_limits(runs, machine, at_once, self.location)
            runs = with_decoding(runs, limits, shared=not machine.has_gpu)
            sentences = [limit.sentence() for limit in limits.values()]
        seconds = sum(run.seconds or 0 for run in runs)
        return Plan(
            tuple(artifact.name for artifact in self.chosen),
            tuple(runs),
            machine.devices,
            at_once,
            wall_seconds(runs, at_full_speed(machine, at_once, together)),
            seconds / 3600 * gpus if machine.has_gpu else None,
            tuple(sentences),
        )

    def run(
        self,
        command: str,
        *,
        deterministic: bool = False,
        keep: Keep = Keep.LAST,
        yes: bool = False,
    ) -> Summary:
        """Train what the database lacks.

        Args:
            command: the command line, for provenance.
            deterministic: whether a GPU is to give the same bits every time.
            keep: which weights stay when a run is done.
            yes: whether all questions are answered with yes.

        Raises:
            ConfirmationError: a question needs an answer, and there is no person to ask.
        """
        store = checkpoint_store(self._results, self.checkpoints)
        open_runs = longest_first(self.needed)
        if not open_runs:
            told = "" if keep is Keep.LAST else " --keep changes nothing of runs that are done."
            self.dialogue.notice(
                f"Nothing to train: all {len(self.needed)} runs are in {self._results.name}.{told}"
            )
            return self._summary(Worked({}))
        self._say_other_lengths()
        if not self._may_start(open_runs, store, yes=yes):
            return self._summary(Worked({}))
        processes = max(1, int(self.executor.gpus_of_a_run))
        self._prepare(open_runs, processes)
        database = open_database(self.database, create=True)
        jobs = make_jobs(
            open_runs,
            database,
            self.executor.machine,
            # By all that were asked for, done or not: a command gives a run the same threads again.
            self.executor.machine.threads(self.executor.room(len(self.needed))),
            self.location,
            command,
            store,
            deterministic=deterministic,
            keep=keep,
            processes=processes,
        )
        return self._summary(self.executor.work(database, jobs, self.dialogue), jobs)

    def _summary(self, worked: Worked, jobs: Sequence[Job] = ()) -> Summary:
        return Summary(
            self._results.name,
            len(self.needed),
            sum(run.done for run in self.needed),
            Counter(ended.outcome for ended in worked.ended.values()),
            0 if worked.submitted else len(jobs) - len(worked.ended),
            worked.stopped,
            len(jobs) if worked.submitted else 0,
        )

    def _say_other_lengths(self) -> None:
        open_specs = (run.spec for run in self.needed if not run.done)
        if sentence := other_lengths(self._results, open_specs):
            self.dialogue.notice(sentence)

    def _may_start(self, open_runs: Sequence[PlannedRun], store: Store, *, yes: bool) -> bool:
        """Check data and the store, and ask before a long training or one that loses something."""
        if not self._may_restart(open_runs, store, yes=yes):
            return False
        on_cpu = self.request.protocol is Protocol.PAPER and not self.executor.machine.has_gpu
        if on_cpu and not yes and self.dialogue.has_person:  # else the estimate helps no decision
            self._say_how_long(open_runs)
        specs = [run.spec.data for run in open_runs]
        self.executor.check(specs, self.location, store, self.dialogue)
        return not on_cpu or self.dialogue.confirm("Start all the same?", yes=yes)

    def _say_how_long(self, open_runs: Sequence[PlannedRun]) -> None:
        self.dialogue.notice("No GPU here: measuring how fast this CPU is …")
        seconds = self._plan(open_runs).wall_seconds
        runs = f"{len(open_runs)} run{'s' if len(open_runs) > 1 else ''}"
        advice = " For a look that takes minutes, add --protocol demo." if seconds > LONG else ""
        self.dialogue.notice(f"On this CPU {runs} would take about {duration(seconds)}.{advice}")

    def _may_restart(self, open_runs: Sequence[PlannedRun], store: Store, *, yes: bool) -> bool:
        """Ask before runs start again because their checkpoints are in another store."""
        begun = [planned.run for planned in open_runs if planned.run and planned.run.epochs]
        if begun:
            check_reachable(store)
        lost = [run for run in begun if not sorted_names(folder_of(store, run))]
        if not lost:
            return True
        self.dialogue.notice(
            f"{len(lost)} interrupted runs in {self._results.name} have no checkpoint in "
            f"{store.name}: they would start again from the first epoch. If their checkpoints are "
            "elsewhere, name that folder or URL with --checkpoints."
        )
        return self.dialogue.confirm("Start them again?", yes=yes)

    def _prepare(self, open_runs: Sequence[PlannedRun], processes: int) -> None:
        """Say where runs are trained, and refuse what cannot be trained so."""
        at_once, devices = self.executor.room(len(open_runs)), self.executor.machine.devices
        self.dialogue.notice(
            f"{len(open_runs)} of {len(self.needed)} runs to train, {at_once} at a time "
            f"on {', '.join(devices)}; results go to {self._results.name}."
        )
        if processes > 1:
            for run in open_runs:
                check_group(run.spec, Group(0, processes))
        say_without_commit(self.dialogue)
        check_file_system(self.database, self.dialogue, several=self.executor.shares_database)


def say_without_commit(dialogue: Dialogue) -> None:
    """Say why results will not name the commit of the code, if they will not."""
    if problem := git_problem():
        dialogue.notice(f"Results will not name the commit of the code: {problem}.")


def check_file_system(location: str, dialogue: Dialogue, *, several: bool) -> None:
    """Warn of a SQLite file on a network file system, or out of other nodes' reach.

    Args:
        several: whether several machines open the database.

    Raises:
        UsageError: they would damage it.
    """
    path = sqlite_path(location)
    kind = network_file_system(path) if path else None
    if kind and several:
        raise UsageError(
            f"{path} is on a network file system ({kind}), where several machines would damage a "
            "SQLite file: give a PostgreSQL database with --db"
        )
    if path and several:
        dialogue.notice(
            f"{path} is on this machine's own disk: tasks on other nodes will not find it."
        )
    elif kind:
        dialogue.notice(
            f"Beware: {path} is on a network file system ({kind}), where several machines can "
            "damage a SQLite file. Use PostgreSQL, or a file for each and 'dia-repro db merge'."
        )
