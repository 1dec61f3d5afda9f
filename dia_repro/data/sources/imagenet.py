"""ImageNet 2012 (ILSVRC) from class folders: imagenet/train/n01440764/… and imagenet/val/….

O. Russakovsky et al.: ImageNet Large Scale Visual Recognition Challenge, IJCV 2015. It cannot be
downloaded without an account. Validation images are expected in class folders, as is customary.
EXIF rotation is not applied, as in the works whose results are compared.
"""

from __future__ import annotations

from dia_repro.data.dataset import StreamedDataset
from dia_repro.data.image_folder import sample as sample_folder
from dia_repro.data.image_folder import scan
from dia_repro.data.inspection import MEMORY, inspect, sound
from dia_repro.data.registry import DataError, OnProgress, reading, register_known
from dia_repro.experiments.names import DataLocation
from dia_repro.experiments.spec import DataSpec

FOLDER = "imagenet"
TEST_NAMES = ("val",)  # its test/ has no labels
CLASSES, TRAINING_IMAGES, TEST_IMAGES = 1000, 1_281_167, 50_000


def load(
    spec: DataSpec, location: DataLocation, on_progress: OnProgress | None = None
) -> StreamedDataset:
    """Return ImageNet from `imagenet` in the folder of data sets, if it is complete and sound."""
    path = location.root / FOLDER
    with reading(path):
        there = path.is_dir()
    if not there:
        raise DataError(
            f"imagenet is not in {path}: put its train/ and val/ there, a folder a class "
            "(or a link to where they are)"
        )
    found = scan(path, TEST_NAMES)
    complete = (CLASSES, TRAINING_IMAGES, TEST_IMAGES)
    counts = (len(found.classes), len(found.train), len(found.test))
    if counts != complete:
        raise DataError(
            f"{path} is not ImageNet 2012: it has {_say(counts)} instead of {_say(complete)}; "
            f"for a part of it say --dataset folder:{path} --image-size {spec.image_size}"
        )
    inspection = inspect(found, location.root / MEMORY, on_progress)
    kept = sound(found, inspection, skip_damaged=False)
    return StreamedDataset(
        "imagenet",
        kept.train,
        kept.test,
        spec.image_size,
        inspection.content_hash,
        kept.classes,
        upright=False,
    )


def sample(spec: DataSpec, location: DataLocation, count: int) -> StreamedDataset:
    """Return a few random training images."""
    files = sample_folder(location.root / FOLDER, count)
    return StreamedDataset(spec.dataset, files, files, spec.image_size, "", upright=False)


def _say(counts: tuple[int, int, int]) -> str:
    return "{:,} classes, {:,} training and {:,} test images".format(*counts)


register_known(
    "imagenet",
    classes=CLASSES,
    image_size=224,
    augmentation="resized-crop-flip",
    training_images=TRAINING_IMAGES,
    load=load,
    sample=sample,
)
