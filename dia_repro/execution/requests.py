"""Requests to artifacts, from a selection: data, protocol, precision, networks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dia_repro.artifacts import Entry, TableArtifact
from dia_repro.artifacts.selection import Wanted
from dia_repro.data import DataChoice, own_images, source_of
from dia_repro.errors import UsageError
from dia_repro.execution.dialogue import Dialogue
from dia_repro.execution.options import Selection
from dia_repro.experiments.names import FOLDER, DataLocation, Precision, Protocol, folder_path
from dia_repro.experiments.protocols import GPU_PRECISION, Request
from dia_repro.experiments.spec import Spec
from dia_repro.results.database import Database
from dia_repro.results.queries import all_spec_json

if TYPE_CHECKING:
    from dia_repro.execution.machine import Machine


class NoSuchNetworkError(UsageError):
    """No network of the artifacts has the words asked for in its name."""


def find_data(
    selection: Selection, root: Path, dialogue: Dialogue, database: Database | None = None
) -> DataChoice | None:
    """Return the data that `--dataset` names; None without it.

    Args:
        root: folder of downloaded data sets.
        database: looked up for the name of a user's images that are not on this machine, to show
            their results; damaged images are left out then.

    Raises:
        UsageError: an unknown name, or options that do not go with it.
        DataError: the user's images are missing or damaged.
    """
    dataset, size = selection.dataset, selection.image_size
    source = source_of(dataset) if dataset else None
    if size is not None and (source is None or source.choose is None):
        raise UsageError("--image-size goes with --dataset folder:PATH or packed:PATH")
    if selection.skip_damaged and (source is None or source.name != FOLDER):
        raise UsageError("--skip-damaged goes with --dataset folder:PATH")
    if dataset is None or source is None or source.choose is None:
        return source.known if source else None
    path, is_here = folder_path(dataset), False
    with suppress(OSError):  # a name too long, a circle of links, a folder that cannot be read
        is_here = path.is_dir()
    if database is not None and not is_here:
        return _recorded_data(dataset, size, database)
    location = DataLocation(root, path, selection.skip_damaged or database is not None)
    with dialogue.watch(f"Looking through {path}") as on_progress:
        return source.choose(
            path, size, location, on_progress, lambda text: dialogue.notice(f"{text}.")
        )


def _recorded_data(dataset: str, size: int | None, database: Database) -> DataChoice:
    """Return data that runs of the database were trained on."""
    data = {Spec.from_stored(text).data for text in all_spec_json(database)}
    found = {
        own_images(dataset, known.classes, known.image_size, known.content_hash)
        for known in data
        if known.dataset == dataset
        and known.content_hash is not None
        and size in (None, known.image_size)
    }
    if not found:
        raise UsageError(
            f"there is no folder {dataset.partition(':')[2]}, and no run on {dataset} "
            f"in {database.name}"
        )
    if len(found) > 1:
        sizes = ", ".join(sorted({str(known.image_size) for known in found}))
        raise UsageError(
            f"{len(found)} data sets in {database.name} are called {dataset} (image sizes "
            f"{sizes}): give the path of one, or --image-size"
        )
    return DataChoice(found.pop(), None)


def request_to_train(selection: Selection, machine: Machine, data: DataChoice | None) -> Request:
    """Return the request to train networks on a machine.

    Raises:
        PrecisionError: the machine does not have the precision.
    """
    import torch

    from dia_repro.training.numerics import check_precision

    protocol, precision = selection.protocol or Protocol.PAPER, selection.precision
    if precision is None:
        precision = GPU_PRECISION[protocol] if machine.has_gpu else Precision.FP32
    if not machine.has_gpu or torch.cuda.is_available():  # a cluster's GPUs cannot be asked
        for device in machine.devices:
            check_precision(precision.value, torch.device(device))
    asked = selection.precision is not None
    further = (selection.epochs, selection.select, selection.rate)
    return Request(protocol, precision, data, asked, *further)


def wanted(selection: Selection, data: DataChoice | None) -> Wanted:
    """Return the choices of results to show that a selection fixes; the database makes the rest."""
    return Wanted(
        selection.protocol,
        selection.precision,
        data,
        selection.epochs,
        selection.seeds,
        selection.select,
        selection.rate,
    )


def chosen_entries(
    artifacts: Iterable[TableArtifact], only: Sequence[str] = ()
) -> list[tuple[str, Entry]]:
    """Return the networks of artifacts, each with the artifact's name, in their order.

    Args:
        only: leave out networks whose names lack the words of all of these. A whole name means
            that network alone in its artifact, even if others have its words, too.

    Raises:
        NoSuchNetworkError: some words are in no network's name.
    """
    asked = list(artifacts)
    for words in only:
        if not any(_meant(artifact, [words]) for artifact in asked):
            labels = (repr(entry.label) for artifact in asked for entry in artifact.entries)
            known = ", ".join(dict.fromkeys(labels))
            raise NoSuchNetworkError(f"no network is called {words!r}: there are {known}")
    found: list[tuple[str, Entry]] = []
    for artifact in asked:
        meant = _meant(artifact, only)
        found += [(artifact.name, entry) for entry in artifact.entries if entry.label in meant]
    return found


def _meant(artifact: TableArtifact, only: Sequence[str]) -> set[str]:
    """Return the names of the networks of an artifact that are meant."""
    labels = {entry.label for entry in artifact.entries}
    if not only:
        return labels
    meant: set[str] = set()
    for words in only:
        whole = {label for label in labels if _words(label) == _words(words)}
        meant |= whole or {label for label in labels if is_named(label, [words])}
    return meant


def narrowed(artifacts: Sequence[TableArtifact], only: Sequence[str]) -> list[TableArtifact]:
    """Return the artifacts that have networks with the words in their names, to show these alone.

    Other networks stay, hidden: changes are counted from some.

    Raises:
        NoSuchNetworkError: some words are in no network's name.
    """
    if not only:
        return list(artifacts)
    named = {(name, entry.label) for name, entry in chosen_entries(artifacts, only)}
    kept, found = {name for name, _ in named}, []
    for artifact in (artifact for artifact in artifacts if artifact.name in kept):
        entries = (
            replace(entry, shown=entry.shown and (artifact.name, entry.label) in named)
            for entry in artifact.entries
        )
        found.append(replace(artifact, entries=tuple(entries)))
    return found


def names_of_claims(artifacts: Iterable[TableArtifact], only: Sequence[str] = ()) -> set[str]:
    """Return the names of claims on artifacts.

    Args:
        only: leave out claims on no network that has the words of one of these in its name.

    Raises:
        NoSuchNetworkError: one of these is empty.
    """
    from dia_repro.claims.evaluate import every_claim
    from dia_repro.claims.evidence import cells_of, entry_at

    names = {artifact.name for artifact in artifacts}
    return {
        claim.name
        for claim in every_claim()
        if claim.artifact in names
        and any(is_named(entry_at(cell).label, only) for cell in cells_of(claim))
    }


def is_named(label: str, only: Sequence[str]) -> bool:
    """Return whether a network's name has all words of one of these, or there are none.

    Raises:
        NoSuchNetworkError: one of these is empty.
    """
    known, *wanted = map(_words, (label, *only))
    if not all(wanted):
        raise NoSuchNetworkError("--only needs words of a network's name, e.g. 'DIANet ResNet83'")
    return not wanted or any(words <= known for words in wanted)


def _words(text: str) -> set[str]:
    return set(text.lower().replace(",", " ").split())
