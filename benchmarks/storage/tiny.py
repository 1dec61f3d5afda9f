"""The smallest real training: ResNet11 with a DIA unit on the digits, and what it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dia_repro.execution.executors.local import LocalSupervisor
from dia_repro.execution.machine import Slots
from dia_repro.execution.maintenance import checkpoint_store
from dia_repro.execution.messages import Ended, Job, Message
from dia_repro.experiments.names import DataLocation
from dia_repro.experiments.spec import (
    DataSpec,
    DIALSTMAttention,
    ModelSpec,
    RecipeSpec,
    ResNetBackbone,
    Spec,
)
from dia_repro.results import writer
from dia_repro.results.database import Database, open_database
from dia_repro.results.queries import RunSummary, all_runs, run_detail
from dia_repro.training import checkpoint
from dia_repro.training.store import Store


def spec_of(epochs: int) -> Spec:
    """Return the experiment; two cells, so that dropout draws random numbers, too."""
    return Spec(
        data=DataSpec(dataset="digits", classes=10, image_size=8, augmentation="shift1"),
        model=ModelSpec(
            backbone=ResNetBackbone(depth=11), attention=DIALSTMAttention(cells=2, stages=(1,))
        ),
        recipe=RecipeSpec(
            epochs=epochs,
            batch_size=128,
            lr=0.01,
            momentum=0.9,
            weight_decay=1e-4,
            milestones=(2,),
            gamma=0.1,
        ),
        precision="fp32",
    )


def jobs_for(
    database: Database, spec: Spec, seeds: Sequence[int], folder: Path, checkpoints: Store
) -> list[Job]:
    """Enter the runs of a spec into a database, and return a job for each seed, in their order."""
    text = spec.canonical_json()
    numbers = writer.ensure_runs(database, {spec.spec_id: text}, seeds)
    return [
        Job(
            run_id=numbers[spec.spec_id, seed],
            label=f"seed {seed}",
            spec_json=text,
            seed=seed,
            database=database.location,
            checkpoints=checkpoints,
            data=DataLocation(folder),
            device="cpu",
            threads=1,
            command="python -m benchmarks",
        )
        for seed in seeds
    ]


def tiny_jobs(folder: Path, seeds: int, epochs: int) -> tuple[Database, list[Job]]:
    """Return a database in a folder, and a job for each seed."""
    database = open_database(str(folder / "runs.db"), create=True)
    store = checkpoint_store(database)
    return database, jobs_for(database, spec_of(epochs), range(seeds), folder, store)


def train(database: Database, jobs: list[Job], slots: int, **options: Any) -> dict[int, Ended]:
    """Train in worker processes of this machine, without showing progress."""

    def ignore(_job: Job, _message: Message) -> None:
        pass

    return LocalSupervisor(database, Slots.on_cpu(slots), ignore, **options).run(jobs)


@dataclass(frozen=True)
class Outcome:
    """Results of a training: its state, the values of its epochs, and its weights."""

    state: str
    epochs: tuple[tuple[object, ...], ...]
    weights: dict[str, torch.Tensor]
    attempts: int

    def same(self, other: Outcome) -> bool:
        """Return whether two trainings have the same results, bit for bit."""
        return (
            (self.state, self.epochs) == (other.state, other.epochs)
            and self.weights.keys() == other.weights.keys()
            and all(torch.equal(w, other.weights[name]) for name, w in self.weights.items())
        )


def outcomes(database: Database) -> dict[int, Outcome]:
    """Return the outcomes of all runs by seed."""
    return {run.seed: _outcome(database, run) for run in all_runs(database)}


def _outcome(database: Database, run: RunSummary) -> Outcome:
    detail = run_detail(database, run.id)
    folder = checkpoint.run_folder(checkpoint_store(database), run.spec_id, run.seed, run.uid)
    loaded = checkpoint.load_newest(folder)
    content: dict[str, Any] = loaded.content if loaded else {}
    values = tuple(
        tuple(value for name, value in row.items() if name != "seconds") for row in detail.epochs
    )
    return Outcome(run.state.value, values, content.get("model", {}), len(detail.provenance))


def trained(folder: Path, seeds: int, epochs: int, slots: int) -> dict[int, Outcome]:
    """Train in a folder, and return the outcomes by seed."""
    database, jobs = tiny_jobs(folder, seeds, epochs)
    train(database, jobs, slots)
    try:
        return outcomes(database)
    finally:
        database.close()
