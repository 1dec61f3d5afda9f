"""What a batch needs: BN takes the mean of more than one value for each channel."""

from __future__ import annotations

from dia_repro.errors import UsageError
from dia_repro.experiments.describe import describe_data, describe_model
from dia_repro.experiments.spec import Spec


class LonelyImageError(UsageError):
    """A batch has one image, and the last feature map one pixel, of which BN cannot be trained."""


def check_batches(spec: Spec, training_images: int) -> None:
    """See that every training batch gives BN more than one value for each channel.

    Raises:
        LonelyImageError: one does not.
    """
    stride = spec.model.backbone.stride
    size = spec.recipe.batch_size
    alone = size == 1 or training_images % size == 1
    if spec.model.norm and alone and spec.data.image_size <= stride:
        raise LonelyImageError(
            f"{describe_model(spec.model)} on {describe_data(spec.data)}: {training_images:,} "
            f"training images in batches of {size} leave one of a single image, and its last "
            "feature map, one pixel, is too little for BN: take images larger than "
            f"{stride}×{stride}, or one more or fewer"
        )
