"""`data fetch` and `data check`: data sets on this machine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dia_repro.cli import options
from dia_repro.cli.output import notice, watch
from dia_repro.cli.requests import FOLDER, folder_path
from dia_repro.errors import ABSENT, DONE
from dia_repro.experiments.names import DataLocation

app = typer.Typer(help="Data sets on this machine.", no_args_is_help=True)


class Downloadable(StrEnum):
    """Data sets that a command can get."""

    CIFAR10 = "cifar10"
    CIFAR100 = "cifar100"


@app.command()
def fetch(
    name: Annotated[Downloadable, typer.Argument(help="The data set.")],
    data: options.DataFolder = options.DEFAULT_DATA,
) -> None:
    """Download a data set and verify its checksums.

    The host is slow: 169 MB can take an hour. ImageNet cannot be had without an account.

    Example: dia-repro data fetch cifar100
    """
    from dia_repro.data.cifar import fetch_cifar

    with watch(f"Downloading {name.value}") as on_progress:
        fetch_cifar(name.value, data, on_progress)
    check(name.value, data)


@app.command()
def check(
    name: Annotated[
        str, typer.Argument(help="cifar10, cifar100, imagenet, or folder:PATH for your own.")
    ],
    data: options.DataFolder = options.DEFAULT_DATA,
) -> None:
    """Verify a data set and count its images; lists damaged ones, a path a line.

    Example: dia-repro data check cifar100
    """
    if name.startswith(FOLDER):
        _check_folder(folder_path(name), data)
        return
    from dia_repro.data import load
    from dia_repro.experiments.protocols import known_data

    spec = known_data(name).spec
    with watch(f"Looking through {name}") as on_progress:
        dataset = load(spec, DataLocation(data), on_progress)
    notice(
        f"{name} in {data} is complete: {dataset.training_images:,} training and "
        f"{dataset.test_images:,} test images."
    )


def _check_folder(path: Path, data: Path) -> None:
    from dia_repro.data.folder import scan
    from dia_repro.data.inspection import inspect
    from dia_repro.data.own import MEMORY, resolved

    found = scan(resolved(path))
    if found.remark:
        notice(f"{found.remark}.")
    with watch(f"Looking through {path}") as on_progress:
        inspection = inspect(found, data / MEMORY, on_progress)
    for name in inspection.damaged:
        typer.echo(path / name)
    size = f"{inspection.side}×{inspection.side} pixels" if inspection.side else "various sizes"
    if inspection.damaged:
        notice(f"Damaged: {inspection.complaint}.")
    notice(
        f"{path}: {len(found.classes):,} classes, {len(found.train):,} training and "
        f"{len(found.test):,} test images of {size}, {len(inspection.damaged):,} damaged; "
        f"content hash {inspection.content_hash[:16]}."
    )
    raise typer.Exit(ABSENT if inspection.damaged else DONE)
