"""Registry of data sources, which load, fetch and check the data of a name.

A source is one file in `sources`, or a user's own module, that calls `register`. Its module is
imported by quick commands: what takes long (torch, torchvision) it imports where it needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from dia_repro.data.dataset import AnyDataset, StreamedDataset
from dia_repro.errors import AbsentError, UsageError
from dia_repro.experiments.names import DataLocation, folder_path
from dia_repro.experiments.spec import DataSpec

# Up to this side a user's own images are augmented as CIFAR's are, beyond as ImageNet's are.
LARGEST_LIKE_CIFAR = 64

OnProgress = Callable[[int, int], object]  # takes images (or bytes) done and in all; may raise


class DataError(AbsentError):
    """A data set is missing, damaged or not the one it should be."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Context in which a file that cannot be read is a `DataError`, which names it or `path`."""
    try:
        yield
    except OSError as error:
        shown = error.filename or path
        raise DataError(f"cannot read {shown}: {error.strerror or error}") from error


@dataclass(frozen=True)
class DataChoice:
    """Data to train on.

    Attributes:
        spec: description of the data in an experiment.
        training_images: number of training images, for estimates before anything is loaded; None
            for a user's images that are not on this machine.
        folder: folder of a user's own images; None for data that have a name.
    """

    spec: DataSpec
    training_images: int | None
    folder: Path | None = None

    def with_validation(self, per_cent: int) -> DataChoice:
        """Return it with a share of the training images held out."""
        spec = self.spec.model_copy(update={"validation": per_cent})
        images = self.training_images
        left = None if images is None else images - spec.held_out(images)
        return replace(self, spec=spec, training_images=left)


@dataclass(frozen=True)
class Findings:
    """Result of `data check`.

    Attributes:
        remarks: sentences for people, without a full stop; the last one says what is there.
        damaged: images that cannot be decoded.
    """

    remarks: tuple[str, ...]
    damaged: tuple[Path, ...] = ()


Remark = Callable[[str], object]  # takes a sentence for people, without a full stop
Load = Callable[[DataSpec, DataLocation, OnProgress | None], AnyDataset]
Choose = Callable[[Path, int | None, DataLocation, OnProgress | None, Remark], DataChoice]
Fetch = Callable[[str, Path, OnProgress | None, str | None], None]
Check = Callable[[Path, DataLocation, OnProgress | None], Findings]
Sample = Callable[[DataSpec, DataLocation, int], AnyDataset]


@dataclass(frozen=True)
class Source:
    """One kind of images.

    Attributes:
        name: name of the data; one that ends in a colon is followed by the path of a user's images.
        load: returns the images of a spec; raises `DataError` where they are missing or others.
        known: data of a fixed name; None for a user's images.
        choose: returns the same for a user's folder, with images of a side in pixels (None leaves
            it to the source).
        fetch: downloads the data of a name into a folder, from a mirror where a URL is given; None
            where that is not possible.
        check: verifies a user's images in a folder; by default data are loaded.
        sample: returns at least this number of training images; by default all are loaded.
    """

    name: str
    load: Load
    known: DataChoice | None = None
    choose: Choose | None = None
    fetch: Fetch | None = None
    check: Check | None = None
    sample: Sample | None = None


_sources: dict[str, Source] = {}


def register(source: Source) -> None:
    """Make a source known under its name.

    Raises:
        ValueError: another one has this name, or it describes neither known nor a user's images.
    """
    if source.name in _sources:
        raise ValueError(f"there is a data source called {source.name} already")
    if (source.known is None) == (source.choose is None):
        raise ValueError(f"data source {source.name} needs either known data or a way to choose")
    _sources[source.name] = source


def register_known(
    name: str,
    *,
    classes: int,
    image_size: int,
    augmentation: str,
    training_images: int,
    load: Load,
    fetch: Fetch | None = None,
    sample: Sample | None = None,
) -> None:
    """Register data of a fixed name; see `DataSpec` and `Source`."""
    fields = {"classes": classes, "image_size": image_size, "augmentation": augmentation}
    spec = DataSpec.model_validate({"dataset": name, **fields})
    choice = DataChoice(spec, training_images)
    register(Source(name, load, known=choice, fetch=fetch, sample=sample))


def known_sources() -> dict[str, DataChoice]:
    """Return the data that have a fixed name, in the order of their registration."""
    return {name: source.known for name, source in _sources.items() if source.known}


def source_of(name: str) -> Source:
    """Return the source of data by their name, or by the beginning of it before a path.

    Raises:
        UsageError: there is none.
    """
    kind, colon, _ = name.partition(":")
    if kind + colon not in _sources:
        own = sorted(f"{known}PATH" for known, source in _sources.items() if source.choose)
        names = ", ".join([*known_sources(), *own[:-1]])
        raise UsageError(f"unknown data set {name!r}: choose one of {names} or {own[-1]}")
    return _sources[kind + colon]


def known_data(name: str) -> DataChoice:
    """Return the data set of a fixed name; raises `UsageError` where there is none."""
    choice = source_of(name).known
    if choice is None:
        raise UsageError(f"{name} are images of your own: give their path with --dataset")
    return choice


def load(
    spec: DataSpec, location: DataLocation, on_progress: OnProgress | None = None
) -> AnyDataset:
    """Return the data that an experiment names, with the images held out that it validates on.

    Raises:
        DataError: they are not there, damaged, not what they were, or of a source that is not
            registered here.
    """
    try:
        source = source_of(spec.dataset)
    except UsageError as error:
        raise DataError(f"no data source called {spec.dataset} is registered here") from error
    dataset = source.load(spec, location, on_progress)
    count = spec.held_out(len(dataset.train))
    if spec.validation is not None and not count:
        raise DataError(f"{len(dataset.train)} training images are too few to hold some out")
    return dataset.with_validation(count) if count else dataset


def fetch_data(
    name: str, root: Path, on_progress: OnProgress | None = None, mirror: str | None = None
) -> Findings:
    """Download data of a name into a folder, and verify them.

    Args:
        mirror: URL of a copy of the archive, or of the folder that it is in.

    Raises:
        UsageError: there are no such data, or they cannot be downloaded.
        DataError: the download failed, or what came is not what it should be.
    """
    fetch = source_of(name).fetch
    if fetch is None:
        raise UsageError(f"{name} cannot be downloaded")
    fetch(name, root, on_progress, mirror)
    return check_data(name, root, on_progress)


def check_data(name: str, root: Path, on_progress: OnProgress | None = None) -> Findings:
    """Verify data of a name.

    Args:
        name: e.g. `cifar10` in the folder `root`; or `folder:PATH` and `packed:PATH`.

    Raises:
        UsageError: there are no such data.
        DataError: they are missing or damaged.
    """
    source = source_of(name)
    location = DataLocation(root, folder_path(name) if ":" in name else None)
    if source.check and location.folder is not None:
        return source.check(location.folder, location, on_progress)
    dataset = source.load(known_data(name).spec, location, on_progress)
    there = (
        f"{name} in {location.root} is complete: {len(dataset.train):,} training and "
        f"{len(dataset.test):,} test images"
    )
    return Findings((there,))


def sample(spec: DataSpec, location: DataLocation, count: int) -> StreamedDataset:
    """Return at least a few training images of streamed data, where listing all would take long.

    Raises:
        DataError: they are not there, or not streamed.
    """
    source = source_of(spec.dataset)
    found = source.sample(spec, location, count) if source.sample else load(spec, location)
    if not isinstance(found, StreamedDataset):
        raise DataError(f"{spec.dataset} is not streamed")
    return found


def own_images(name: str, classes: int, image_size: int, content_hash: str) -> DataSpec:
    """Return the description of a user's own images, `folder:…` or `packed:…`, in an experiment."""
    like_cifar = image_size <= LARGEST_LIKE_CIFAR
    try:
        return DataSpec(
            dataset=name,
            classes=classes,
            image_size=image_size,
            augmentation="crop4-flip" if like_cifar else "resized-crop-flip",
            content_hash=content_hash,
        )
    except ValueError as error:  # no name, a line break, or bytes that are no UTF-8
        raise DataError(f"no experiment can be named {name!r}: rename the folder") from error


def is_streamed(data: DataSpec) -> bool:
    """Return whether images are decoded as training needs them, not all at the start."""
    return data.image_size > LARGEST_LIKE_CIFAR


def own_folder(spec: DataSpec, location: DataLocation) -> Path:
    """Return the folder of a user's images; refuse data for which none was given."""
    if location.folder is None:
        raise DataError(f"{spec.dataset} is not on this machine: give its path with --dataset")
    return location.folder
