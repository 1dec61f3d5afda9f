"""Registry of executors, which train the runs of a campaign.

An executor is a module of this package, or of a plugin, that registers a subclass of `Executor`
under its name. Its name is a value of `--executor`; it says which options of `Resources` it takes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from dia_repro.errors import AbsentError, UsageError

if TYPE_CHECKING:
    from dia_repro.execution.dialogue import Dialogue, Listener
    from dia_repro.execution.endings import Supervisor
    from dia_repro.execution.machine import Machine
    from dia_repro.execution.messages import Ended, Job
    from dia_repro.execution.options import Resources
    from dia_repro.experiments.names import DataLocation
    from dia_repro.experiments.spec import DataSpec
    from dia_repro.results.database import Database
    from dia_repro.training.store import Store


@dataclass(frozen=True)
class Worked:
    """Runs as an executor left them.

    Attributes:
        ended: how each run ended that was started, by its number.
        stopped: whether a signal stopped the executor.
        submitted: whether runs were handed over, and go on by themselves.
    """

    ended: Mapping[int, Ended]
    stopped: bool = False
    submitted: bool = False

    @property
    def done(self) -> bool:
        """Return whether each run that was started has a result, and there are some."""
        from dia_repro.execution.messages import Outcome

        results = {Outcome.FINISHED, Outcome.DIVERGED, Outcome.DONE_BEFORE}
        return bool(self.ended) and {end.outcome for end in self.ended.values()} <= results


class Executor(ABC):
    """Base of executors; made of the resources that were asked for and a dialogue.

    Attributes:
        options: names of the fields of `Resources` that it takes, next to `executor` and `device`.
        data_is_here: whether runs read their data on this machine.
        shares_database: whether several machines open the database themselves.
        machine: this machine, or one like a cluster's nodes.
        gpus_of_a_run: number of GPUs of each run, or the part of one; 1 also where there are none.
    """

    options: ClassVar[frozenset[str]] = frozenset()
    data_is_here: ClassVar[bool] = False
    shares_database: ClassVar[bool] = False

    def __init__(self, machine: Machine, gpus_of_a_run: float) -> None:
        self.machine, self.gpus_of_a_run = machine, gpus_of_a_run

    @abstractmethod
    def room(self, runs: int) -> int:
        """Return how many of `runs` runs are trained at a time."""

    def on_one_machine(self, at_once: int) -> int:
        """Return how many of `at_once` runs at a time share one machine."""
        return at_once

    def check(
        self, data: Sequence[DataSpec], location: DataLocation, store: Store, dialogue: Dialogue
    ) -> None:
        """Look through data, and write to the store of checkpoints, before any worker starts.

        Raises:
            DataError: data are missing, damaged, or not what they were.
            AbsentError: the store cannot be written.
        """
        from dia_repro.data import load
        from dia_repro.execution.leasing import lock_location
        from dia_repro.training.probing import probe

        lock_location(store)
        for spec in dict.fromkeys(data):
            with dialogue.watch(f"Looking through {spec.dataset}") as on_progress:
                load(spec, location, on_progress)
        with probe(store):
            pass

    def work(self, database: Database, jobs: Sequence[Job], dialogue: Dialogue) -> Worked:
        """Train runs and wait for them, or, in an executor that overrides it, hand them over."""
        with dialogue.progress(jobs) as listener:
            supervisor = self.supervisor(database, len(jobs), listener)
            return Worked(supervisor.run(jobs), supervisor.stopping)

    def supervisor(self, database: Database, runs: int, listener: Listener) -> Supervisor:
        """Return what gives runs to workers and receives their messages."""
        raise NotImplementedError


_REGISTERED: dict[str, Any] = {}  # subclasses, whose constructors differ
E = TypeVar("E", bound=type[Executor])


def register(name: str) -> Callable[[E], E]:
    """Register a subclass of `Executor` under the value of `--executor` that chooses it."""

    def registered(kind: E) -> E:
        _REGISTERED[name] = kind
        return kind

    return registered


def names() -> list[str]:
    """Return the names of all executors; imports none of them."""
    return sorted({*(module.name for module in iter_modules(__path__)), *_REGISTERED})


def find_executor(resources: Resources, dialogue: Dialogue) -> Executor:
    """Return the executor that was asked for.

    Raises:
        UsageError: an option that it does not take, or options that do not go together.
        AbsentError: no such GPU or cluster, or a package that it needs is not installed.
    """
    name = resources.executor.value
    if name not in _REGISTERED:
        try:
            import_module(f"{__name__}.{name}")
        except ImportError as error:
            hint = f"pip install 'dia-repro[{name}]'"
            raise AbsentError(f"{error.name} is not installed: {hint}") from error
    kind = _REGISTERED[name]
    foreign = resources.given - kind.options - {"executor", "device"}
    if foreign:
        option = min(foreign).replace("_", "-")
        hint = "leave it out, or choose another executor"
        raise UsageError(f"--{option} does not go with --executor {name}: {hint}")
    if resources.per_gpu and resources.gpus_per_run:
        raise UsageError("either --per-gpu or --gpus-per-run: several runs a GPU, or GPUs a run")
    executor: Executor = kind(resources, dialogue)
    return executor
