"""From options to what is asked for: data, precision, protocol."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dia_repro.cli.options import DEFAULT_DATABASE
from dia_repro.cli.output import notice, watch
from dia_repro.errors import UsageError, displayed
from dia_repro.experiments.names import FOLDER, DataLocation, Precision, Protocol

if TYPE_CHECKING:
    from dia_repro.data import DataChoice
    from dia_repro.execution.machine import Machine
    from dia_repro.experiments.protocols import Request
    from dia_repro.results.database import Database
    from dia_repro.training.store import Store


class NoDatabaseError(UsageError):
    """The database that was named is not there."""


def open_existing(location: str) -> Database:
    """Open a database that has to be there.

    Raises:
        NoDatabaseError: it is not.
    """
    from dia_repro.results.backends import sqlite_path
    from dia_repro.results.database import open_database

    path = sqlite_path(location)
    if path is not None and not path.exists():
        raise NoDatabaseError(f"there is no database {displayed(location)}")
    return open_database(location, create=False)


def open_results(location: str) -> Database:
    """Open a database to show what is in it: one that nobody named may not be there yet.

    Raises:
        NoDatabaseError: the one that was named is not there.
    """
    from dia_repro.results.database import open_database

    if location == DEFAULT_DATABASE:
        return open_database(location, create=False)
    return open_existing(location)


def choose_data(
    dataset: str | None,
    image_size: int | None,
    data: Path,
    *,
    skip_damaged: bool = False,
    database: Database | None = None,
) -> DataChoice | None:
    """The data that `--dataset` names; None without it.

    Args:
        database: where to look for a user's images by name when they are not on this machine:
            enough to show results, not to train. Damaged images are no obstacle to that either.
    """
    from dia_repro.data import source_of

    source = source_of(dataset) if dataset else None
    if image_size is not None and (source is None or source.choose is None):
        raise UsageError("--image-size goes with --dataset folder:PATH or packed:PATH")
    if skip_damaged and (source is None or source.name != FOLDER):
        raise UsageError("--skip-damaged goes with --dataset folder:PATH")
    if dataset is None or source is None or source.choose is None:
        return source.known if source else None
    path = folder_path(dataset)
    if database is not None and not _is_folder(path):
        return _recorded_data(dataset, image_size, database)
    location = DataLocation(data, path, skip_damaged or database is not None)
    with watch(f"Looking through {path}") as on_progress:
        return source.choose(
            path, image_size, location, on_progress, lambda text: notice(f"{text}.")
        )


def _is_folder(path: Path) -> bool:
    with suppress(OSError):  # a name too long, a circle of links, a folder nobody may look into
        return path.is_dir()
    return False


def folder_path(dataset: str) -> Path:
    """The path in `folder:PATH` or `packed:PATH`."""
    kind, _, text = dataset.partition(":")
    if not text:
        raise UsageError(f"{kind}: needs the path of a folder behind it")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        user = text.split("/")[0].removeprefix("~")
        raise UsageError(f"{dataset}: there is no home folder of {user or 'yours'}") from error


def _recorded_data(dataset: str, image_size: int | None, database: Database) -> DataChoice:
    from dia_repro.data import DataChoice, own_images
    from dia_repro.experiments.spec import Spec
    from dia_repro.results.queries import all_spec_json

    data = {Spec.from_json(text).data for text in all_spec_json(database)}
    found = {
        own_images(dataset, one.classes, one.image_size, one.content_hash)
        for one in data
        if one.dataset == dataset and one.content_hash is not None
    }
    if image_size is not None:
        found = {one for one in found if one.image_size == image_size}
    if not found:
        raise UsageError(
            f"there is no folder {dataset.partition(':')[2]}, and no run on {dataset} "
            f"in {database.name}"
        )
    if len(found) > 1:
        sizes = ", ".join(sorted({str(one.image_size) for one in found}))
        raise UsageError(
            f"{len(found)} data sets in {database.name} are called {dataset} (image sizes "
            f"{sizes}): give the path of one, or --image-size"
        )
    return DataChoice(found.pop(), None)


def repeated(options: Mapping[str, object]) -> str:
    """Options that were given, as they would be typed again, with a space in front."""
    given = {name: value for name, value in options.items() if value is not None}
    return "".join(f" {name} {shlex.quote(str(value))}" for name, value in given.items())


def resolve(
    machine: Machine,
    protocol: Protocol,
    data: DataChoice | None,
    precision: Precision | None,
    epochs: int | None,
) -> Request:
    """What is asked for, on a machine that has a GPU or none."""
    import torch

    from dia_repro.experiments.protocols import GPU_PRECISION, Request
    from dia_repro.training.numerics import check_precision

    asked = precision is not None
    if precision is None:
        precision = GPU_PRECISION[protocol] if machine.has_gpu else Precision.FP32
    if not machine.has_gpu or torch.cuda.is_available():  # a cluster's GPUs cannot be asked
        for device in machine.devices:
            check_precision(precision.value, torch.device(device))
    return Request(protocol, precision, data, precision_asked=asked, epochs=epochs)


def reachable_store(database: Database, location: str | None) -> Store:
    """The store of checkpoints that was named, or the default; seen to answer.

    Raises:
        UsageError: the location is neither a folder nor a URL of a known kind.
        AbsentError: nobody answers there, or a package for it is not installed.
    """
    from dia_repro.execution.planning import checkpoint_store
    from dia_repro.training.probing import check_reachable

    store = checkpoint_store(database, location)
    check_reachable(store)
    return store
