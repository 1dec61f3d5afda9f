"""Options that several commands and the Python API share, each described once.

A field of `Selection`, `RunFilter` or `Resources` is an option, with its help in `option`.
`cli.options` makes typer's options of the fields, `command_line` the text of a command.
"""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from dia_repro.errors import UsageError
from dia_repro.execution import executors
from dia_repro.experiments.names import Precision, Protocol, SelectOn
from dia_repro.experiments.seeds import METAVAR, Seeds

Options = TypeVar("Options")

DEFAULT_DATABASE = "runs.db"
# Hundreds of times the paper's longest training; a database has a row for each.
MOST_EPOCHS = 100_000
LEAST_RATE, HIGHEST_RATE = 1e-9, 1000.0
LONGEST_SHOWN = 100  # characters of a value that is refused
DEFAULT_DATA = Path("data")


class Device(StrEnum):
    """Kind of device to train on."""

    CPU = "cpu"
    CUDA = "cuda"


# The values of `--executor`, from the registry.
ExecutorName = StrEnum("ExecutorName", {name.upper(): name for name in executors.names()})  # type: ignore[misc]


def option(text: str, default: Any = None, **limits: Any) -> Any:
    """Return a dataclass field that is an option.

    Args:
        text: its help.
        limits: further arguments of `typer.Option`, e.g. `min`.
    """
    return field(default=default, metadata={"help": text, **limits})


@dataclass(frozen=True)
class Selection:
    """Selection of an artifact's networks, and of the data and recipe that they are trained with.

    None leaves a choice to the command: to train, it takes the paper's protocol and one seed; to
    show results, it takes what most runs in the database were trained with.
    """

    protocol: Protocol | None = option(
        "paper: its data and schedule, where runs are trained the default; demo: handwritten "
        "digits, minutes on a CPU. Results are shown of the one that the database has runs of."
    )
    seeds: Seeds | None = option(
        "Seeds that each network is trained with: 5 are seeds 0 to 4, 5-9 and 0,3 (or 0-2,7) are "
        "these alone; by default 0. Of results: 5 is how many a cell should have at least, and it "
        "should have those of any other; 5-9 and 0,3 leave out the results of other seeds.",
        parser=Seeds.of,
        metavar=METAVAR,
    )
    only: tuple[str, ...] = option(
        "Only networks whose name has all these words, e.g. 'DIANet ResNet83'; a whole name means "
        "that network alone; may be repeated.",
        (),
    )
    attention: tuple[str, ...] = option(
        "Networks with this kind of attention in addition to the artifact's own, e.g. "
        "dia-lstm:reduction=8 or a kind of your own; may be repeated. They have the backbones, "
        "data and recipes of the artifact's networks.",
        (),
    )
    epochs: int | None = option(
        "Another number of epochs than the protocol's; the rate is cut at the same fractions of "
        "them. It makes other experiments, shown as such.",
        min=1,
        max=MOST_EPOCHS,
    )
    rate: float | None = option(
        "Another initial learning rate than the protocol's, cut at the same epochs by the same "
        "factor. It makes other experiments, shown as such.",
        min=LEAST_RATE,
        max=HIGHEST_RATE,
    )
    dataset: str | None = option(
        "Other data than the artifact's own: digits, cifar10, cifar100, imagenet, or folder:PATH "
        "for your own images in PATH/train/CLASS/ and PATH/test/CLASS/ (or val/), or packed:PATH "
        "for what 'dia-repro data pack' wrote."
    )
    image_size: int | None = option(
        "Side in pixels to which your own images are brought; by default their own if they are "
        "square and agree, else 32. Beyond 64 they are augmented as ImageNet's are. Of packed "
        "images by default 7/8 of what their shorter side was reduced to.",
        min=8,
        max=1024,
    )
    skip_damaged: bool = option("Leave out those of your own images that are damaged.", False)
    select: SelectOn = option(
        "Images whose accuracy chooses the epoch. test: the highest test accuracy over epochs "
        "counts, as the authors report it. validation: a tenth of the training images is held out, "
        "and only the epoch that does best on them is tested; these are other experiments.",
        SelectOn.TEST,
    )
    precision: Precision | None = option(
        "Arithmetic of training; by default tf32 for the paper's protocol on a GPU, fp32 "
        "otherwise. Results are shown of the one that the database has most runs of, never mixed."
    )

    @property
    def trained_seeds(self) -> tuple[int, ...]:
        """Return the seeds of the runs that a command trains."""
        return (self.seeds or Seeds()).numbers


@dataclass(frozen=True)
class RunFilter:
    """Filter of the runs of a listing, and their order.

    A run of the listing has, for every option, one of the values that it names. `list_runs` checks
    states, artifacts and columns.
    """

    state: tuple[str, ...] = option(
        "Only runs that are pending, running, finished, diverged, failed or interrupted; may be "
        "repeated, as the following ones.",
        (),
    )
    artifact: tuple[str, ...] = option(
        "Only runs of a table or figure, by any protocol and length, e.g. table5.", ()
    )
    network: tuple[str, ...] = option(
        "Only networks whose listed name has all these words, e.g. 'DIANet ResNet164'.", ()
    )
    dataset: tuple[str, ...] = option("Only runs on these data, e.g. cifar100.", ())
    host: tuple[str, ...] = option("Only runs that this machine trained, at least in part.", ())
    origin: tuple[str, ...] = option("Only runs of others whom a merge has named so.", ())
    since: datetime | None = option(
        "Only runs of which anything changed since: a date such as 2026-11-20, or a time such as "
        "2026-11-20T14:30:00 (UTC).",
        metavar="DATE",
    )
    sort: str | None = option(
        "Column of the csv format to sort by, e.g. best_top1, or -best_top1 for the highest first.",
        metavar="COLUMN",
    )


@dataclass(frozen=True)
class Resources:
    """Devices that runs are trained on, and the number of runs at a time."""

    executor: ExecutorName = option(
        "Worker processes of this machine, a Ray cluster's tasks, or a Slurm job array, which is "
        "submitted and left alone.",
        ExecutorName("local"),
    )
    device: Device | None = option("By default the GPU if there is one.")
    jobs: int | None = option(
        "Runs trained at a time, each in its own process; by default one for each GPU, or "
        "each core of a CPU; with Slurm, as many as it starts.",
        min=1,
    )
    per_gpu: int | None = option(
        "Runs at a time on each GPU, as far as its memory holds them; small networks leave most "
        "of a GPU idle.",
        min=1,
    )
    gpus_per_run: int | None = option(
        "Several GPUs for each run, as for ImageNet's networks; batches are shared out among "
        "them, with the same results as on one.",
        min=1,
    )
    address: str | None = option(
        "Address of a Ray cluster, HOST:PORT or auto; by default one is started on this machine."
    )
    slurm: tuple[str, ...] = option(
        "An option of sbatch, e.g. partition=gpu, time=12:00:00 (by default 24 hours), account=… "
        "or exclusive; may be repeated.",
        (),
    )

    @property
    def given(self) -> frozenset[str]:
        """Return the names of the fields that differ from their defaults."""
        return frozenset(f.name for f in fields(self) if getattr(self, f.name) != f.default)


def flag(name: str) -> str:
    """Return the option of a field, e.g. `--image-size`."""
    return f"--{name.replace('_', '-')}"


def options_of(kind: type[Options], values: Any) -> Options:
    """Return a `Selection`, `RunFilter`, `Resources` or a value of theirs from plain values.

    A single text is taken where there may be several.

    Raises:
        UsageError: a value of the wrong type, or out of range.
    """
    from pydantic import TypeAdapter, ValidationError

    if isinstance(values, Mapping) and is_dataclass(kind):
        known = {field.name: field for field in fields(kind)}
        if others := values.keys() - known:
            raise UsageError(
                f"there is no option {min(others)}: choose from {', '.join(sorted(known))}"
            )
        values = {
            name: (value,) if known[name].default == () and isinstance(value, str) else value
            for name, value in values.items()
        }
    try:
        options = TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        wrong = error.errors()[0]
        name = ".".join(map(str, wrong["loc"])) or kind.__name__.lower()
        why = wrong["msg"].removeprefix("Value error, ")
        raise UsageError(f"{name}: {why}, not {brief(wrong['input'])}") from error
    for checked in fields(options) if is_dataclass(options) else ():
        name, value, limits = checked.name, getattr(options, checked.name), checked.metadata
        low, high = limits.get("min", -math.inf), limits.get("max", math.inf)
        if isinstance(value, int | float) and not low <= value <= high:
            bound = f"at least {low}" if value < low else f"at most {high}"
            raise UsageError(f"{name}: must be {bound}, not {brief(value)}")
        for text in value if isinstance(value, tuple) else (value,):
            check_text(name, text)
    return options


def check_text(name: str, value: object) -> None:
    """Raise `UsageError` for a text that no command line, file or database can have."""
    if not isinstance(value, str):
        return
    try:
        fit = b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        fit = False
    if not fit:
        raise UsageError(f"{name}: no name has these characters: {brief(value)}")


def brief(value: object) -> str:
    """Return a value as Python writes it, in one line that is not too long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def command_line(
    verb: str, *words: str, options: object | tuple[object, ...] = (), **others: object
) -> str:
    """Return a command as it is typed, for people and programs.

    Args:
        words: its arguments.
        options: a `Selection`, `Resources` or both: fields at their defaults are left out.
        others: further options by their fields' names; None, False and () are left out.
    """
    given: list[tuple[str, object]] = []
    for group in options if isinstance(options, tuple) else (options,):
        values = [(known, getattr(group, known.name)) for known in fields(group)]  # type: ignore[arg-type]
        given += [(known.name, value) for known, value in values if value != known.default]
    typed = ["dia-repro", *verb.split(), *words]
    for name, value in [*given, *others.items()]:
        for part in value if isinstance(value, tuple) else (value,):
            if part is True:
                typed.append(flag(name))
            elif part is not None and part is not False:
                typed += [flag(name), str(part)]
    return shlex.join(typed)
