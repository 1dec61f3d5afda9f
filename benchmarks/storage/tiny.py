"""The smallest real training there is: ResNet11 with a DIA unit on the digits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dia_repro.execution.maintenance import checkpoint_store
from dia_repro.execution.messages import Job, Message
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


def spec_of(epochs: int) -> Spec:
    """The experiment; two cells, so that dropout draws random numbers too."""
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


def orders_for(folder: Path, seeds: int, epochs: int) -> tuple[Database, list[Job]]:
    """A database in a folder, and an order for each seed."""
    location = str(folder / "runs.db")
    database = open_database(location, create=True)
    spec = spec_of(epochs)
    text = spec.canonical_json()
    numbers = writer.ensure_runs(database, {spec.spec_id: text}, range(seeds))
    return database, [
        Job(
            run_id=number,
            label=f"seed {seed}",
            spec_json=text,
            seed=seed,
            database=location,
            checkpoints=checkpoint_store(database),
            data=DataLocation(folder),
            device="cpu",
            threads=1,
            command="python -m benchmarks storage",
        )
        for (_, seed), number in numbers.items()
    ]


@dataclass(frozen=True)
class Outcome:
    """All that a training leaves: its state, its epochs' figures and its weights."""

    state: str
    epochs: tuple[tuple[object, ...], ...]
    weights: dict[str, torch.Tensor]
    attempts: int

    def same(self, other: Outcome) -> bool:
        """Whether two trainings came to the same, bit for bit."""
        return (
            (self.state, self.epochs) == (other.state, other.epochs)
            and self.weights.keys() == other.weights.keys()
            and all(torch.equal(one, other.weights[name]) for name, one in self.weights.items())
        )


def outcome_of(database: Database, run: RunSummary) -> Outcome:
    """What a run left."""
    detail = run_detail(database, run.id)
    folder = checkpoint.run_folder(checkpoint_store(database), run.spec_id, run.seed, run.uid)
    loaded = checkpoint.load_newest(folder)
    content: dict[str, Any] = loaded.content if loaded else {}
    figures = tuple(
        tuple(value for name, value in row.items() if name != "seconds") for row in detail.epochs
    )
    attempts = len(detail.provenance)
    return Outcome(run.state.value, figures, content.get("model", {}), attempts)


def outcomes(database: Database) -> dict[int, Outcome]:
    """Of all runs, by seed."""
    return {run.seed: outcome_of(database, run) for run in all_runs(database)}


def silent(_order: Job, _message: Message) -> None:
    """Nobody listens."""
