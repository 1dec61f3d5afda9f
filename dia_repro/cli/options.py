"""Options that several commands share, each with its sentence."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dia_repro.experiments.names import Precision, Protocol


class Format(StrEnum):
    """For people, or for programs."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class Device(StrEnum):
    """Where to train."""

    CPU = "cpu"
    CUDA = "cuda"


Artifacts = Annotated[
    list[str], typer.Argument(help="Tables or figures of the paper, e.g. table5; or all.")
]
ProtocolOption = Annotated[
    Protocol,
    typer.Option(
        "--protocol",
        help="paper: its data and schedule; demo: handwritten digits, minutes on a CPU.",
    ),
]
Seeds = Annotated[
    int, typer.Option("--seeds", min=1, help="How often each network is trained: seeds 0 to N-1.")
]
Dataset = Annotated[
    str | None, typer.Option("--dataset", help="Other data than the artifact's own, e.g. cifar10.")
]
PrecisionOption = Annotated[
    Precision | None,
    typer.Option(
        "--precision",
        help="Arithmetic of training; by default tf32 for the paper's protocol on a GPU, "
        "fp32 otherwise.",
    ),
]
DatabaseOption = Annotated[
    str,
    typer.Option(
        "--db", envvar="DIA_REPRO_DB", help="Results database: a SQLite file or a database URL."
    ),
]
DataFolder = Annotated[
    Path,
    typer.Option("--data", envvar="DIA_REPRO_DATA", help="Folder that holds downloaded data sets."),
]
DeviceOption = Annotated[
    Device | None,
    typer.Option("--device", help="By default the GPU if there is one."),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        min=1,
        help="Runs trained at a time, each in a process of its own; by default one for each "
        "GPU, or each core of a CPU.",
    ),
]
FormatOption = Annotated[
    Format, typer.Option("--format", help="table for people; csv or json for programs.")
]

DEFAULT_DATABASE = "runs.db"
DEFAULT_DATA = Path("data")
