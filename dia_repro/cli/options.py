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


class Executor(StrEnum):
    """What runs are given to."""

    LOCAL = "local"
    RAY = "ray"
    SLURM = "slurm"


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
    int,
    typer.Option(
        "--seeds", min=1, max=1000, help="How often each network is trained: seeds 0 to N-1."
    ),
]
ShownProtocol = Annotated[
    Protocol | None,
    typer.Option(
        "--protocol",
        help="paper or demo; by default the one the database holds runs of, the paper's first.",
    ),
]
ShownPrecision = Annotated[
    Precision | None,
    typer.Option(
        "--precision", help="By default the one the database holds most runs of. Never mixed."
    ),
]
ShownSeeds = Annotated[
    int | None,
    typer.Option("--seeds", min=1, help="How many seeds a cell should have; by default the most."),
]
Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        help="Other data than the artifact's own: digits, cifar10, cifar100, imagenet, or "
        "folder:PATH for your own images in PATH/train/CLASS/ and PATH/test/CLASS/ (or val/), or "
        "packed:PATH for what 'dia-repro data pack' wrote.",
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        "--image-size",
        min=8,
        max=1024,
        help="Side in pixels to which your own images are brought; by default their own if "
        "they are square and agree, else 32. Beyond 64 they are varied as ImageNet's are. Of "
        "packed images by default 7/8 of what their shorter side was reduced to.",
    ),
]
SkipDamaged = Annotated[
    bool,
    typer.Option("--skip-damaged", help="Leave out those of your own images that are damaged."),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        "--epochs",
        min=1,
        help="Another number of epochs than the protocol's; the rate is cut at the same "
        "fractions of them. It makes other experiments, shown as such.",
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        help="Only networks whose name has all these words, e.g. 'DIANet ResNet83'; may be "
        "repeated.",
    ),
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
CheckpointsOption = Annotated[
    str | None,
    typer.Option(
        "--checkpoints",
        envvar="DIA_REPRO_CHECKPOINTS",
        help="Where weights are kept: a folder, or a URL such as s3://BUCKET/FOLDER, that all "
        "machines reach; by default a folder beside the database.",
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
        "GPU, or each core of a CPU; with Slurm, as many as it starts.",
    ),
]
ExecutorOption = Annotated[
    Executor,
    typer.Option(
        "--executor",
        help="Worker processes of this machine, a Ray cluster's tasks, or a Slurm job array, "
        "which is submitted and left alone.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="Of a Ray cluster, HOST:PORT or auto; by default one is started on this machine.",
    ),
]
PerGpu = Annotated[
    int | None,
    typer.Option(
        "--per-gpu",
        min=1,
        help="Runs at a time on each GPU, as far as its memory holds them; small networks leave "
        "most of a GPU idle.",
    ),
]
SlurmOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--slurm",
        help="An option of sbatch, e.g. partition=gpu, time=12:00:00 (by default 24 hours), "
        "account=… or exclusive; may be repeated.",
    ),
]
GPUsPerRun = Annotated[
    int | None,
    typer.Option(
        "--gpus-per-run",
        min=1,
        help="Several GPUs for each run, as for ImageNet's networks; batches are shared out "
        "among them, with the same results as on one.",
    ),
]
FormatOption = Annotated[
    Format, typer.Option("--format", help="table for people; csv or json for programs.")
]

DEFAULT_DATABASE = "runs.db"
DEFAULT_DATA = Path("data")
