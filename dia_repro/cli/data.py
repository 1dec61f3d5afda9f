"""`data fetch`, `data check` and `data pack`: data sets on this machine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dia_repro.cli import options
from dia_repro.cli.output import notice, watch
from dia_repro.errors import ABSENT, DONE, UsageError
from dia_repro.experiments.names import FOLDER, PACKED, DataLocation, folder_path
from dia_repro.processors import cores

if TYPE_CHECKING:
    from dia_repro.data import StreamedDataset

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
        str,
        typer.Argument(
            help="cifar10, cifar100, imagenet, folder:PATH for your own, or packed:PATH."
        ),
    ],
    data: options.DataFolder = options.DEFAULT_DATA,
) -> None:
    """Verify a data set and count its images; lists damaged ones, a path a line.

    Example: dia-repro data check cifar100
    """
    if name.startswith(FOLDER):
        _check_folder(folder_path(name), data)
        return
    if name.startswith(PACKED):
        _check_pack(folder_path(name), data)
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
    from dia_repro.data.inspection import MEMORY, inspect
    from dia_repro.data.own import resolved

    found = scan(resolved(path))
    with watch(f"Looking through {path}") as on_progress:
        inspection = inspect(found, data / MEMORY, on_progress)
    for name in inspection.damaged:
        typer.echo(path / name)
    size = f"{inspection.side}×{inspection.side} pixels" if inspection.side else "various sizes"
    if inspection.damaged:
        notice(f"Damaged: {inspection.complaint}.")
    for remark in (*found.remarks, *inspection.remarks):
        notice(f"{remark}.")
    notice(
        f"{path}: {len(found.classes):,} classes, {len(found.train):,} training and "
        f"{len(found.test):,} test images of {size}, {len(inspection.damaged):,} damaged; "
        f"content hash {inspection.content_hash[:16]}."
    )
    raise typer.Exit(ABSENT if inspection.damaged else DONE)


def _check_pack(path: Path, data: Path) -> None:
    from dia_repro.data.inspection import MEMORY
    from dia_repro.data.manifest import read_manifest, verify
    from dia_repro.data.packed import open_pack

    with watch(f"Looking through {path}") as on_progress:
        verify(path, read_manifest(path), on_progress)
        found = open_pack(path, data / MEMORY)
    manifest = found.manifest
    notice(
        f"{path}: {manifest.name}, {len(manifest.classes):,} classes, {len(found.train):,} "
        f"training and {len(found.test):,} test images; content hash "
        f"{manifest.content_hash[:16]}."
    )


@app.command()
def pack(
    name: Annotated[str, typer.Argument(help="imagenet, or folder:PATH for your own.")],
    side: Annotated[
        int,
        typer.Option(
            "--side",
            min=0,
            max=4096,
            help="Shorter side that larger images are reduced to, in pixels; 0 leaves all sizes.",
        ),
    ] = 256,
    quality: Annotated[
        int,
        typer.Option("--quality", min=50, max=100, help="Of JPEG files that are compressed again."),
    ] = 90,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Cores that convert; by default all."),
    ] = None,
    skip_damaged: Annotated[
        bool,
        typer.Option("--skip-damaged", help="Leave out those images that are damaged."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder to write; by default one in packed/ of --data."),
    ] = None,
    data: options.DataFolder = options.DEFAULT_DATA,
) -> None:
    """Pack images into a few large files of resized JPEGs, which are read several times faster.

    Done once; what was interrupted goes on with the same command. Train on the pack with
    --dataset packed:PATH: other pixels, so another experiment than on the originals.

    Example: dia-repro data pack imagenet --side 256
    """
    from dia_repro.data.inspection import MEMORY
    from dia_repro.data.packed import require_pyarrow
    from dia_repro.data.packing import default_target
    from dia_repro.data.packing import pack as write_pack
    from dia_repro.data.shards import Job

    require_pyarrow()  # refused now rather than when all is looked through
    if skip_damaged and not name.startswith(FOLDER):
        raise UsageError("--skip-damaged goes with folder:PATH")
    source, classes = _source(name, data, skip_damaged=skip_damaged)
    target = out or default_target(data, source.name, side, quality)
    job = Job(source, classes, target, side, quality, workers or cores())
    with watch(f"Packing {name}") as on_progress:
        manifest, found = write_pack(job, data / MEMORY, on_progress)
    images = [sum(shard.images for shard in split) for split in (manifest.train, manifest.test)]
    size = sum(shard.size for shard in (*manifest.train, *manifest.test))
    notice(
        f"{target} {'was there already' if found else 'is written'}: {images[0]:,} training and "
        f"{images[1]:,} test images, {size / 1e9:,.3g} GB; content hash "
        f"{manifest.content_hash[:16]}. Train on it with --dataset packed:{target}"
    )


def _source(
    name: str, data: Path, *, skip_damaged: bool
) -> tuple[StreamedDataset, tuple[str, ...]]:
    """The images to be packed, damaged ones refused or left out."""
    from dia_repro.data.packing import folder_source, imagenet_source

    if name.startswith(FOLDER):
        path = folder_path(name)
        with watch(f"Looking through {path}") as on_progress:
            return folder_source(path, data, skip_damaged=skip_damaged, on_progress=on_progress)
    if name != "imagenet":
        raise UsageError(f"only imagenet and folder:PATH are packed, not {name!r}")
    with watch("Looking through imagenet") as on_progress:
        return imagenet_source(data, on_progress)
