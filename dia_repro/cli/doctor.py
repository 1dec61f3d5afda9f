"""`doctor`: is this machine ready?"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dia_repro.cli import options
from dia_repro.cli.output import emit, notice, stderr, watch
from dia_repro.errors import ABSENT, DONE, DiaReproError, displayed
from dia_repro.experiments.names import DataLocation, Precision
from dia_repro.rendering.listing import Column, field, listing

if TYPE_CHECKING:
    from dia_repro.execution.machine import Machine

FIELDS = ("check", "status", "detail")
COLUMNS = tuple(Column(name, field(name)) for name in FIELDS)
LEAST_FREE_BYTES = 1_000_000_000


def doctor(
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    data: options.DataFolder = options.DEFAULT_DATA,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Say whether this machine is ready: GPU, data, disk, database.

    Exits with 3 where not even the demo protocol could run.

    Example: dia-repro doctor
    """
    records = [
        {"check": check, "status": status, "detail": detail}
        for check, status, detail in _checks(db, data)
    ]
    emit(format_, FIELDS, records, listing(COLUMNS, records))
    bad = [record for record in records if record["status"] == "bad"]
    absent = [str(record["check"]) for record in records if record["status"] == "absent"]
    if format_ is options.Format.TABLE:
        notice("The demo protocol can run." if not bad else "Not even the demo protocol can run.")
        if absent:
            notice(f"For the paper's protocol there is no {', no '.join(absent)}.")
    raise typer.Exit(ABSENT if bad else DONE)


def _checks(db: str, data: Path) -> Iterator[tuple[str, str, Any]]:
    import torch

    from dia_repro.execution.machine import find_machine
    from dia_repro.training.provenance import device_name

    yield "python", "ok", platform.python_version()
    yield "torch", "ok", torch.__version__
    machine = find_machine()
    cpu = f"{device_name(torch.device('cpu'))}, {machine.cores} cores"
    yield "processor", "ok", cpu
    yield from _gpu_checks(machine)
    for name in ("cifar10", "cifar100", "imagenet"):
        yield name, *_data_check(name, data)
    yield "ImageNet input", *_input_check(machine, data)
    yield "disk", *_disk_check(Path(db if "://" not in db else "."))
    yield "database", *_database_check(db)


def _gpu_checks(machine: Machine) -> Iterator[tuple[str, str, str]]:
    """One line for each GPU: whether torch computes on it, and in which precisions."""
    import torch

    from dia_repro.training.numerics import has_precision
    from dia_repro.training.provenance import device_name

    for name in machine.devices if machine.has_gpu else ():
        device = torch.device(name)
        lacking = [p for p in (Precision.TF32, Precision.BF16) if not has_precision(p, device)]
        precisions = "fp32, tf32 and bf16"
        if lacking:
            precisions = f"no {' and no '.join(lacking)}: use --precision fp32"
        yield "GPU", "ok", f"{name}: {device_name(device)}, {precisions}"
    for reason in machine.unusable:
        yield "GPU", "absent", reason
    if not machine.has_gpu:
        yield "GPU", "absent", "training goes to the CPU: enough for --protocol demo"


def _data_check(name: str, data: Path) -> tuple[str, str]:
    from dia_repro.data import load
    from dia_repro.experiments.protocols import known_data

    try:
        with watch(f"Looking through {name}") as on_progress:
            dataset = load(known_data(name).spec, DataLocation(data), on_progress)
    except DiaReproError as error:
        return "absent", str(error)
    return "ok", f"{dataset.training_images:,} + {dataset.test_images:,} images in {data}"


def _input_check(machine: Machine, data: Path) -> tuple[str, str]:
    """Whether ImageNet's data path keeps up with training."""
    from dia_repro.cli.balance import imagenet_balance

    with stderr().status("Measuring how fast images are decoded and trained on …"):
        balance = imagenet_balance(machine, data)
    return "ok", balance.sentence() if balance else "images could not be decoded"


def _disk_check(path: Path) -> tuple[str, str]:
    folder = path.absolute().parent
    if not folder.is_dir():
        return "bad", f"the folder {folder} does not exist"
    free = shutil.disk_usage(folder).free
    return "ok" if free >= LEAST_FREE_BYTES else "bad", f"{free / 1e9:,.1f} GB free in {folder}"


def _database_check(db: str) -> tuple[str, str]:
    from dia_repro.results.backends import sqlite_path
    from dia_repro.results.database import open_database
    from dia_repro.results.queries import all_runs

    try:
        database = open_database(db, create=False)
        runs = all_runs(database)
        path = sqlite_path(db)
        if path is not None and not path.exists():
            return "ok", f"{displayed(db)} will be made by the first run"
        with database.writing():
            return "ok", f"{len(runs)} runs in {database.name}"
    except DiaReproError as error:
        return "bad", str(error)
