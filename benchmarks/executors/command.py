"""`python -m benchmarks executors`: cost of keeping many slots busy, with simulated runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks import output
from dia_repro.cli import options
from dia_repro.cli.environment import own_command

if TYPE_CHECKING:
    from dia_repro.execution.messages import Job, Message


class Simulated(StrEnum):
    """Executors of simulated runs."""

    LOCAL = "local"
    RAY = "ray"


def executors(
    runs: Annotated[int, typer.Option("--runs", min=2, max=10**6, help="Simulated runs.")] = 500,
    slots: Annotated[
        int, typer.Option("--slots", min=1, max=10**4, help="Simulated runs at the same time.")
    ] = 64,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.01, help="Mean length of a run.")
    ] = 5.0,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Epochs of a run.")] = 8,
    executor: Annotated[
        Simulated, typer.Option("--executor", help="Executor of the simulated runs: local or ray.")
    ] = Simulated.LOCAL,
    postgres: Annotated[
        str | None,
        typer.Option(
            "--postgres",
            help="URL of a server: simulated runs use a temporary database there instead of a "
            "SQLite file.",
        ),
    ] = None,
    out: output.OutOption = Path("simulation.json"),
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Run simulated runs, which sleep instead of training, on the real executors.

    Values are the cost in addition to the runs' own duration: of slots, processors and the
    database. Simulated runs have a separate database, which is removed.

    Example: python -m benchmarks executors --runs 640 --slots 64 --seconds 10
    """
    output.check_folder(out)
    from benchmarks.executors import scheduling
    from benchmarks.executors.simulated import Load
    from dia_repro.execution.machine import find_machine
    from dia_repro.training.provenance import environment_of

    load = Load(seconds, epochs)
    simulation = scheduling.Simulation(runs, slots, load, _watched, postgres)
    ray = executor is Simulated.RAY
    source = scheduling.on_ray(simulation) if ray else scheduling.local(simulation)
    machine = find_machine("cpu")
    environment = {**environment_of(machine.device, own_command()), "cores": machine.cores}
    output.measure(source, environment, out, format_)


@contextmanager
def _watched(jobs: Sequence[Job]) -> Iterator[Callable[[Job, Message], None]]:
    """Render the progress that `run` prints, and discard it."""
    from rich.console import Console

    from dia_repro.cli.progress import RunProgress

    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        RunProgress(jobs, Console(file=nowhere)) as progress,
    ):
        yield progress.on_message
