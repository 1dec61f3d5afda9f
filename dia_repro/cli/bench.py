"""`bench`: how fast training is on this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dia_repro.cli import options
from dia_repro.cli.circumstances import circumstances_of
from dia_repro.cli.output import emit, notice, stderr
from dia_repro.errors import AbsentError, UsageError
from dia_repro.experiments.names import Precision, Protocol
from dia_repro.rendering.listing import Column, field, listing

if TYPE_CHECKING:
    from dia_repro.bench.suites import Measurement, Setting
    from dia_repro.execution.machine import Machine
    from dia_repro.execution.messages import Message, WorkOrder
    from dia_repro.experiments.spec import Spec


class Suite(StrEnum):
    """All that a kind of machine can show."""

    CPU = "cpu"
    GPU = "gpu"
    INPUT = "input"
    SCHEDULING = "scheduling"


FIELDS = ("name", "value", "unit", "least", "most", "met", "how")
MET = {None: "", True: "yes", False: "NO"}
COLUMNS = (
    Column("measured", field("name")),
    Column("value", lambda r: f"{r['value']:,.4g}", right=True),
    Column("", field("unit")),
    Column("goal", lambda r: _goal(r["least"], r["most"]), right=True),
    Column("met", lambda r: MET[r["met"]]),
    Column("how", field("how")),
)


def bench(
    suite: Annotated[
        Suite | None,
        typer.Option(
            "--suite",
            help="All that a kind of machine can show, cpu or gpu; or input: how fast "
            "photographs are decoded, in files and packed; or scheduling: what many simulated "
            "runs cost, which sleep where others train.",
        ),
    ] = None,
    artifact: Annotated[
        list[str] | None,
        typer.Option("--artifact", help="Networks of a table or figure, with --only some of them."),
    ] = None,
    only: options.Only = None,
    protocol: options.ProtocolOption = Protocol.PAPER,
    spec: Annotated[
        Path | None,
        typer.Option("--spec", help="A JSON file with a spec, as `runs show` prints it."),
    ] = None,
    reference: Annotated[
        bool,
        typer.Option(
            "--reference",
            help="Also measure a plain training loop: eager, fp32, torchvision's transforms in a "
            "DataLoader with 4 workers. CIFAR ResNets only.",
        ),
    ] = False,
    windows: Annotated[
        int, typer.Option("--windows", min=1, help="Windows of each kind, taken in turn.")
    ] = 5,
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds", min=0.1, help="Least length of a window, which ends with an epoch."
        ),
    ] = 1.0,
    runs: Annotated[
        int,
        typer.Option("--runs", min=2, max=10**6, help="Simulated runs, for --suite scheduling."),
    ] = 500,
    slots: Annotated[
        int, typer.Option("--slots", min=1, max=10**4, help="Simulated runs at a time.")
    ] = 64,
    run_seconds: Annotated[
        float, typer.Option("--run-seconds", min=0.01, help="Mean length of a simulated run.")
    ] = 5.0,
    run_epochs: Annotated[
        int, typer.Option("--run-epochs", min=1, help="Epochs of a simulated run.")
    ] = 8,
    executor: Annotated[
        options.Executor, typer.Option("--executor", help="Of simulated runs: local or ray.")
    ] = options.Executor.LOCAL,
    postgres: Annotated[
        str | None,
        typer.Option(
            "--postgres",
            help="A server's URL: simulated runs go to a database made there for the time, "
            "not to a SQLite file.",
        ),
    ] = None,
    precision: options.PrecisionOption = None,
    device: options.DeviceOption = None,
    out: Annotated[
        Path, typer.Option("--out", help="JSON file for the figures and what they were taken on.")
    ] = Path("bench.json"),
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Measure how fast training is here, in ratios with the goal that each has.

    Images are noise in the shape of the data; photographs are made up, with a natural spectrum.
    Figures go to the database too.

    Example: dia-repro bench --suite cpu
    """
    chosen = [one for one in (suite, artifact, spec) if one]
    if len(chosen) != 1:
        raise UsageError("bench needs one of --suite, --artifact and --spec")
    if executor is options.Executor.SLURM:
        raise UsageError("bench simulates runs with --executor local or ray, not slurm")
    if not out.parent.is_dir():
        raise UsageError(f"--out {out}: the folder {out.parent} does not exist")
    from dia_repro.results import writer
    from dia_repro.results.database import open_database

    open_database(db, create=False).close()  # refused now rather than when all is measured
    from dia_repro.bench import scheduling
    from dia_repro.bench.simulated import Load
    from dia_repro.execution.machine import find_machine

    kinds = {Suite.CPU: "cpu", Suite.GPU: "cuda"}
    machine = find_machine(kinds.get(suite, device) if suite else device)
    setting = _setting(machine, windows, seconds)
    circumstances = _circumstances(machine, setting)
    records: list[dict[str, Any]] = []
    with stderr().status("Measuring …") as status:
        if suite is Suite.SCHEDULING:
            load = Load(run_seconds, run_epochs)
            simulation = scheduling.Simulation(runs, slots, load, _watched, postgres)
            on_ray = executor is options.Executor.RAY
            source = scheduling.on_ray(simulation) if on_ray else scheduling.local(simulation)
        elif suite is not None:
            source = _of_suite(suite, setting)
        else:
            specs = _specs(artifact or [], only or [], protocol, spec, precision, machine)
            source = _of_specs(specs, setting, reference=reference)
        for one in source:
            records.append(asdict(one) | {"met": one.met})
            # Written as it grows: what was measured survives whatever stops the rest.
            content = {"circumstances": circumstances, "measurements": records}
            out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            status.update(f"Measured {one.name}")
    database = open_database(db, create=True)
    rows = [{name: value for name, value in one.items() if name != "met"} for one in records]
    writer.record_measurements(database, rows, json.dumps(circumstances))
    emit(format_, FIELDS, records, listing(COLUMNS, records))
    notice(f"{len(records)} figures are in {out} and in {database.name}.")


def _setting(machine: Machine, windows: int, seconds: float) -> Setting:
    from dia_repro.bench.suites import Setting

    return Setting(machine.device, machine.cores, windows, seconds)


def _of_suite(suite: Suite, setting: Setting) -> Iterator[Measurement]:
    from dia_repro.bench.feeding import input_suite
    from dia_repro.bench.suites import cpu_suite, gpu_suite

    suites = {Suite.CPU: cpu_suite, Suite.GPU: gpu_suite, Suite.INPUT: input_suite}
    return suites[suite](setting)


@contextmanager
def _watched(
    orders: Sequence[WorkOrder], weights: Mapping[int, int]
) -> Iterator[Callable[[WorkOrder, Message], None]]:
    """The lines that `run` prints are made, and thrown away."""
    from rich.console import Console

    from dia_repro.cli.progress import RunProgress

    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        RunProgress(orders, weights, Console(file=nowhere)) as progress,
    ):
        yield progress.on_message


def _of_specs(specs: list[Spec], setting: Setting, *, reference: bool) -> Iterator[Measurement]:
    from dia_repro.bench.suites import against_reference, ours_alone

    for one in specs:
        yield from (against_reference if reference else ours_alone)(one, setting)


def _specs(
    artifacts: list[str],
    only: list[str],
    protocol: Protocol,
    file: Path | None,
    precision: Precision | None,
    machine: Machine,
) -> list[Spec]:
    """The experiments asked for, once each."""
    from dia_repro.experiments.spec import Spec

    if file is not None:
        try:
            return [Spec.from_json(file.read_text(encoding="utf-8"))]
        except (OSError, UnicodeDecodeError) as error:
            raise AbsentError(f"cannot read {file}: {error}") from error
    from dia_repro.artifacts import choose
    from dia_repro.cli.requests import resolve
    from dia_repro.execution.planning import chosen_entries

    request = resolve(machine, protocol, None, precision, None)
    entries = chosen_entries(choose(artifacts), only)
    return list(dict.fromkeys(entry.spec(request) for _, entry in entries))


def _circumstances(machine: Machine, setting: Setting) -> dict[str, Any]:
    """What the figures were taken on, and with."""
    return {
        **circumstances_of(machine.device),
        "devices": len(machine.devices),
        "cores": machine.cores,
        "layout": "channels last (reference: NCHW)",
        "windows": setting.windows,
        "seconds": setting.seconds,
    }


def _goal(least: float | None, most: float | None) -> str:
    return f"≥ {least:,.4g}" if least is not None else f"≤ {most:,.4g}" if most is not None else ""
