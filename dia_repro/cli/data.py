"""`data fetch` and `data check`: data sets on this machine."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from dia_repro.cli import options
from dia_repro.cli.output import notice

app = typer.Typer(help="Data sets on this machine.", no_args_is_help=True)


class Downloadable(StrEnum):
    """Data sets that a command can get."""

    CIFAR10 = "cifar10"
    CIFAR100 = "cifar100"


Name = Annotated[Downloadable, typer.Argument(help="The data set.")]


@app.command()
def fetch(name: Name, data: options.DataFolder = options.DEFAULT_DATA) -> None:
    """Download a data set and verify its checksums.

    The host is slow: 169 MB can take an hour.

    Example: dia-repro data fetch cifar100
    """
    from dia_repro.data.cifar import fetch_cifar

    fetch_cifar(name.value, data)
    check(name, data)


@app.command()
def check(name: Name, data: options.DataFolder = options.DEFAULT_DATA) -> None:
    """Verify a data set's checksums and count its images.

    Example: dia-repro data check cifar100
    """
    from dia_repro.data import load

    dataset = load(name.value, data)
    notice(
        f"{name.value} in {data} is complete: {len(dataset.train):,} training and "
        f"{len(dataset.test):,} test images."
    )
