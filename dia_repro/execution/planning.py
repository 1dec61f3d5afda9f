"""Runs that artifacts need: which of them are done, what the rest costs, and the jobs to train."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import text

from dia_repro import plugins
from dia_repro.artifacts import Entry, TableArtifact
from dia_repro.execution.machine import Machine
from dia_repro.execution.messages import Job
from dia_repro.execution.requests import chosen_entries
from dia_repro.experiments.describe import describe_data, describe_model
from dia_repro.experiments.names import DataLocation
from dia_repro.experiments.protocols import Request
from dia_repro.experiments.spec import Spec
from dia_repro.models import Counts, count
from dia_repro.results import writer
from dia_repro.results.backends import make_engine, sqlite_path
from dia_repro.results.database import Database
from dia_repro.results.queries import RunSummary, gpu_memory, runs_of
from dia_repro.results.schema import DONE
from dia_repro.training.store import Store, store_at

BACKWARD_AND_FORWARD = 3
# Weights and momentum in float32, in the two checkpoints that a run keeps while it trains.
CHECKPOINT_BYTES_PER_PARAMETER = 2 * 2 * 4
# Memory of a GPU: weights, gradients and momentum in float32; numbers that the backward pass keeps
# for each output of a layer (2.2 to 3.7 by torch's operations, 1.0 to 2.3 by the fast ones,
# measured on a CPU); images that stay there, test images included; CUDA's own.
GPU_BYTES_PER_PARAMETER = 3 * 4
KEPT_PER_OUTPUT = 3
RESIDENT_SIDE, RESIDENT_SHARE = 64, 1.2
CUDA_BYTES = 1_000_000_000


@dataclass(frozen=True)
class PlannedRun:
    """A run that artifacts need.

    Attributes:
        artifacts: names of all artifacts that need it, in the order asked for.
        training_images: number of training images of its data.
        run: the run in the database, if it is there.
        seconds: estimated time that is left to train; None before `estimates.with_estimates`.
    """

    artifacts: tuple[str, ...]
    training_images: int
    spec: Spec
    seed: int
    run: RunSummary | None
    seconds: float | None = None

    @property
    def label(self) -> str:
        """Return its name for people: "resnet83 se r=16 on digits, seed 0"."""
        network, data = describe_model(self.spec.model), describe_data(self.spec.data)
        return f"{network} on {data}, seed {self.seed}"

    @property
    def done(self) -> bool:
        """Return whether it has a result."""
        return self.run is not None and self.run.state in DONE

    @property
    def counts(self) -> Counts:
        """Return the counts of its network, which are cached."""
        return count(self.spec.model, self.spec.data.classes, self.spec.data.image_size)

    @property
    def macs(self) -> int:
        """Return the multiply-accumulates of its whole training."""
        images = self.training_images * self.spec.recipe.epochs
        return self.counts.macs * BACKWARD_AND_FORWARD * images

    @property
    def left(self) -> float:
        """Return the part that is still to train, from 0 to 1."""
        if self.done:
            return 0.0
        epochs = self.run.epochs if self.run else 0
        return max(0.0, 1 - epochs / self.spec.recipe.epochs)

    @property
    def memory_bytes(self) -> int:
        """Return the estimated bytes that training takes on a GPU.

        On a CPU it takes less: 0.4 to 1.0 times as much (35 networks, on digits and CIFAR images).
        """
        data, batch = self.spec.data, self.spec.recipe.batch_size
        number = 2 if self.spec.precision == "bf16" else 4
        kept = self.counts.outputs * batch * number * KEPT_PER_OUTPUT
        images = 0.0
        if data.image_size <= RESIDENT_SIDE:
            images = self.training_images * RESIDENT_SHARE * 3 * data.image_size**2
        return round(CUDA_BYTES + self.counts.parameters * GPU_BYTES_PER_PARAMETER + kept + images)

    @property
    def disk_bytes(self) -> int:
        """Return the bytes of its checkpoints while it trains."""
        return self.counts.parameters * CHECKPOINT_BYTES_PER_PARAMETER


def plan_runs(
    database: Database,
    artifacts: Iterable[TableArtifact],
    request: Request,
    seeds: Sequence[int],
    only: Sequence[str] = (),
) -> list[PlannedRun]:
    """Return each run that the artifacts need, once, in their order.

    Args:
        seeds: seeds that each spec is trained with.
        only: leave out networks whose names lack the words of all of these.

    Raises:
        NoSuchNetworkError: that leaves none.
    """
    first: dict[Spec, Entry] = {}
    needed_by: dict[Spec, list[str]] = {}
    for name, entry in chosen_entries(artifacts, only):
        spec = entry.spec(request)
        first.setdefault(spec, entry)
        needed_by.setdefault(spec, []).append(name)
    known = runs_of(database, (spec.spec_id for spec in first))
    planned = []
    for spec, entry in first.items():
        by_seed = {run.seed: run for run in known[spec.spec_id]}
        images = entry.data(request).training_images or 0
        names = tuple(dict.fromkeys(needed_by[spec]))
        planned += [PlannedRun(names, images, spec, seed, by_seed.get(seed)) for seed in seeds]
    return planned


def longest_first(planned: Iterable[PlannedRun]) -> list[PlannedRun]:
    """Return the runs that are not done, the longest first, so that the last ones are short."""
    return sorted((run for run in planned if not run.done), key=lambda run: -run.macs)


def make_jobs(
    open_runs: Sequence[PlannedRun],
    database: Database,
    machine: Machine,
    threads: int,
    data: DataLocation,
    command: str,
    *,
    checkpoints: Store | None = None,
    **settings: Any,
) -> list[Job]:
    """Enter runs that are to be trained into the database, and describe each for a worker.

    Args:
        threads: CPU threads of each run.
        checkpoints: by default those of `checkpoint_store`.
        settings: further fields of `Job`, the same for all runs.
    """
    store = checkpoints or checkpoint_store(database)
    specs = {run.spec.spec_id: run.spec.canonical_json() for run in open_runs}
    seen = gpu_memory(database) if machine.has_gpu else {}
    memory = {spec_id: CUDA_BYTES + measured for spec_id, measured in seen.items()}
    numbers = writer.ensure_runs(database, specs, sorted({run.seed for run in open_runs}))
    return [
        Job(
            run_id=numbers[run.spec.spec_id, run.seed],
            label=run.label,
            spec_json=specs[run.spec.spec_id],
            seed=run.seed,
            database=database.location,
            checkpoints=store,
            data=data,
            device=machine.devices[0],
            threads=threads,
            command=command,
            memory=memory.get(run.spec.spec_id) or run.memory_bytes,
            plugins=plugins.setting(),
            **settings,
        )
        for run in open_runs
    ]


def checkpoint_store(database: Database, location: str | None = None) -> Store:
    """Return the store of the checkpoints of a database's runs.

    Args:
        location: a folder or a URL; by default `default_root`.

    Raises:
        UsageError, AbsentError: see `store_at`.
    """
    return store_at(location) if location is not None else Store(default_root(database.location))


def default_root(location: str) -> Path:
    """Return the folder of a database's checkpoints where no other is named.

    Each database has its own: after a merge two of them have runs of the same uid, and a run that
    is removed in one of them keeps its checkpoints in the other.

    It is next to a SQLite file and named after it: runs.db has runs-checkpoints, and a copy
    runs.bak has runs.bak.checkpoints. PostgreSQL's is in the working folder:
    `DATABASE@HOST-PORT-checkpoints`, without user and password.

    Raises:
        DatabaseError: the server cannot be reached.
    """
    path = sqlite_path(location)
    if path is None:
        return Path(f"{_server_database(location)}-checkpoints")
    own = f"{path.stem}-checkpoints" if path.suffix == ".db" else f"{path.name}.checkpoints"
    return path.with_name(own)


def _server_database(location: str) -> str:
    """Return a name of a PostgreSQL database, and of its schema unless that is the usual one.

    The server and the driver tell it: what a URL leaves out is in libpq's variables and files.
    """
    database = Database(make_engine(location, create=False), location)
    asked = text("select current_database(), current_schema()")
    try:
        with database.reading() as session:
            name, schema = session.execute(asked).one()
            info = session.connection().connection.driver_connection.info  # type: ignore[union-attr]
            host, port = info.host.lower(), info.port
    finally:
        database.close()
    named = [name] if schema == "public" else [name, str(schema)]
    return f"{'+'.join(quote(part, safe='') for part in named)}@{quote(host, safe='')}-{port}"
