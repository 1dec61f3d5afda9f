"""`doctor`: is this machine ready?"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dia_repro.cli import options
from dia_repro.cli.output import emit, notice, watch
from dia_repro.errors import ABSENT, DONE, DiaReproError
from dia_repro.experiments.names import DataLocation, Precision
from dia_repro.rendering.listing import Column, field, listing

if TYPE_CHECKING:
    from dia_repro.execution.machine import Machine
    from dia_repro.training.store import Store

FIELDS = ("check", "status", "detail")
COLUMNS = tuple(Column(name, field(name)) for name in FIELDS)
LEAST_FREE_BYTES = 1_000_000_000


def doctor(
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    data: options.DataFolder = options.DEFAULT_DATA,
    checkpoints: options.CheckpointsOption = None,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Say whether this machine is ready: GPU, data, disk, database.

    Each thing is tried: locks, sockets, shared memory, a write to the database that is undone.
    Exits with 3 where not even the demo protocol could run.

    Example: dia-repro doctor
    """
    records = [dict(zip(FIELDS, found, strict=True)) for found in _checks(db, data, checkpoints)]
    emit(format_, FIELDS, records, listing(COLUMNS, records))
    bad = [record for record in records if record["status"] == "bad"]
    absent = [str(record["check"]) for record in records if record["status"] == "absent"]
    if format_ is options.Format.TABLE:
        notice("The demo protocol can run." if not bad else "Not even the demo protocol can run.")
        if absent:
            notice(f"For the paper's protocol there is no {', no '.join(absent)}.")
    raise typer.Exit(ABSENT if bad else DONE)


def _checks(db: str, data: Path, checkpoints: str | None) -> Iterator[tuple[str, str, Any]]:
    import torch

    from dia_repro.cli import probes
    from dia_repro.data import known_sources
    from dia_repro.execution.machine import find_machine
    from dia_repro.training.provenance import device_name

    yield "python", "ok", platform.python_version()
    yield "torch", "ok", torch.__version__
    machine = find_machine()
    yield "processor", *probes.processor(device_name(torch.device("cpu")))
    yield from _gpu_checks(machine)
    yield "code", *_tried(probes.code)
    yield "sockets", *_tried(probes.sockets)
    yield "shared memory", *_tried(probes.shared_memory)
    yield "open files", *_tried(probes.open_files)
    yield "compiled code", *_tried(probes.compiled_code)
    for name in (name for name in known_sources() if name != "digits"):  # scikit-learn has them
        yield name, *_data_check(name, data)
    yield "disk", *_disk_check(Path(db if "://" not in db else "."))
    yield "database", *_tried(lambda: probes.database(db))
    yield "checkpoints", *_tried(lambda: probes.checkpoints(_store(db, checkpoints)))


def _tried(probe: Callable[[], tuple[str, str]]) -> tuple[str, str]:
    """Return a probe's verdict; an error of it means that no run can be trained."""
    try:
        return probe()
    except DiaReproError as error:
        return "bad", str(error)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return "bad", f"{place}{error.strerror or error}"


def _store(db: str, checkpoints: str | None) -> Store:
    from dia_repro.execution.maintenance import checkpoint_store
    from dia_repro.results.database import open_database

    return checkpoint_store(open_database(db, create=False), checkpoints)


def _gpu_checks(machine: Machine) -> Iterator[tuple[str, str, str]]:
    """One line for each GPU: whether torch computes on it, and in which precisions."""
    import torch

    from dia_repro.cli.probes import cannot_compute
    from dia_repro.training.numerics import has_precision
    from dia_repro.training.provenance import device_name

    for name in machine.devices if machine.has_gpu else ():
        device = torch.device(name)
        reason = cannot_compute(device)
        if reason:
            yield "GPU", "bad", f"{name} cannot compute ({reason}): train with --device cpu"
            continue
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
    from dia_repro.data import known_data, load

    try:
        with watch(f"Looking through {name}") as on_progress:
            dataset = load(known_data(name).spec, DataLocation(data), on_progress)
    except DiaReproError as error:
        return "absent", str(error)
    return "ok", f"{len(dataset.train):,} + {len(dataset.test):,} images in {data}"


def _disk_check(path: Path) -> tuple[str, str]:
    folder = path.absolute().parent
    if not folder.is_dir():
        return "bad", f"the folder {folder} does not exist"
    free = shutil.disk_usage(folder).free
    return "ok" if free >= LEAST_FREE_BYTES else "bad", f"{free / 1e9:,.1f} GB free in {folder}"
