"""`data fetch`, `data check` and `data pack`: data sets on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from typer import Argument, Option

from dia_repro.cli import options
from dia_repro.cli.output import notice, watch
from dia_repro.cli.progress import Terminal
from dia_repro.errors import ABSENT, UsageError
from dia_repro.experiments.names import FOLDER, LARGEST_SIDE, DataLocation
from dia_repro.processors import cores

if TYPE_CHECKING:
    from dia_repro.data.dataset import StreamedDataset
    from dia_repro.data.registry import Findings

app = typer.Typer(help="Data sets on this machine.", no_args_is_help=True)


@app.command()
def fetch(
    name: str = Argument(help="The data set: cifar10 or cifar100."),
    mirror: str | None = Option(
        None,
        help="URL of a copy of the archive, or of the folder that it is in: http, https or file.",
    ),
    data: options.DataFolder = options.DEFAULT_DATA,
) -> None:
    """Download a data set and verify its checksums.

    The host is slow: 169 MB can take an hour. An archive that is in the data folder already, or a
    mirror's, is taken if its checksum is right. ImageNet cannot be had without an account.

    Example: dia-repro data fetch cifar100
    """
    from dia_repro.data import fetch_data

    with watch(f"Downloading {name}") as on_progress:
        _say(fetch_data(name, data, on_progress, mirror))


@app.command()
def check(
    name: str = Argument(
        help="cifar10, cifar100, imagenet, folder:PATH for your own, or packed:PATH."
    ),
    data: options.DataFolder = options.DEFAULT_DATA,
) -> None:
    """Verify a data set and count its images; print damaged ones, one path on each line.

    Example: dia-repro data check cifar100
    """
    from dia_repro.data import check_data

    with watch(f"Looking through {name}") as on_progress:
        found = check_data(name, data, on_progress)
    for image in found.damaged:
        typer.echo(image)
    _say(found)
    if found.damaged:
        raise typer.Exit(ABSENT)


@app.command()
def pack(
    name: str = Argument(help="imagenet, or folder:PATH for your own."),
    side: int = Option(
        256,
        min=0,
        max=LARGEST_SIDE,
        help="Shorter side that larger images are reduced to, in pixels; 0 leaves all sizes.",
    ),
    quality: int = Option(
        90, min=50, max=100, help="JPEG quality of images that are compressed again."
    ),
    workers: int | None = Option(None, min=1, help="Cores that convert; by default all."),
    skip_damaged: bool = Option(
        False, "--skip-damaged", help="Leave out those images that are damaged."
    ),
    out: Path | None = Option(None, help="Folder to write; by default one in packed/ of --data."),
    data: options.DataFolder = options.DEFAULT_DATA,
) -> None:
    """Pack images into one large file of resized JPEGs, which are read several times faster.

    The same command continues an interrupted one. Train on the pack with --dataset packed:PATH:
    its pixels differ, so it is another experiment than on the originals.

    Example: dia-repro data pack imagenet --side 256
    """
    if name != "imagenet" and not name.startswith(FOLDER):
        raise UsageError(f"only imagenet and folder:PATH are packed, not {name!r}")
    from dia_repro.data import packing

    source = _source(name, data, skip_damaged=skip_damaged)
    target = out or packing.default_target(data, source.name, side, quality)
    with watch(f"Packing {name}") as on_progress:
        job = packing.Job(source, target, side, quality, workers or cores())
        packed, found = packing.pack(job, on_progress)
    notice(
        f"{target} {'was there already' if found else 'is written'}: {len(packed.train):,} "
        f"training and {len(packed.test):,} test images, {len(packed.train.images) / 1e9:,.3g} GB; "
        f"content hash {packed.manifest.content_hash[:16]}. "
        f"Train on it with --dataset packed:{target}"
    )


def _say(found: Findings) -> None:
    for remark in found.remarks:
        notice(f"{remark}.")


def _source(name: str, data: Path, *, skip_damaged: bool) -> StreamedDataset:
    """Return the images to be packed, damaged ones refused or left out."""
    from dia_repro.data import load
    from dia_repro.data.dataset import StreamedDataset
    from dia_repro.data.registry import LARGEST_LIKE_CIFAR
    from dia_repro.execution.options import Selection
    from dia_repro.execution.requests import find_data

    # A user's images of a size at which they are streamed; the size is no part of a pack.
    size = LARGEST_LIKE_CIFAR + 1 if name.startswith(FOLDER) else None
    selection = Selection(dataset=name, image_size=size, skip_damaged=skip_damaged)
    choice = find_data(selection, data, Terminal())
    assert choice is not None  # noqa: S101 - a name was given
    with watch(f"Looking through {name}") as on_progress:
        source = load(choice.spec, DataLocation(data, choice.folder, skip_damaged), on_progress)
    assert isinstance(source, StreamedDataset)  # noqa: S101 - at such a size
    return source
