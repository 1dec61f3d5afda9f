"""The Spec: one experiment, complete and frozen, and the hash that names it.

Two experiments are the same exactly when their canonical JSON is: keys sorted, no white space,
every field written out. Machine, device, worker count and seed are no part of it. Fields that
only some networks have live in the variant that has them, so that no two specs differ in a
field that changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from dia_repro.errors import UsageError
from dia_repro.experiments.attention import (
    Attention,
    Count,
    DIALSTMAttention,
    Frozen,
    NoAttention,
    Rate,
    SEAttention,
)
from dia_repro.experiments.backbones import (
    Backbone,
    ImageNetBackbone,
    PreResNetBackbone,
    ResNetBackbone,
    ResNeXtBackbone,
    WRNBackbone,
)

__all__ = [
    "Attention",
    "Backbone",
    "DIALSTMAttention",
    "DataSpec",
    "ImageNetBackbone",
    "InvalidSpecError",
    "ModelSpec",
    "NoAttention",
    "PreResNetBackbone",
    "RecipeSpec",
    "ResNeXtBackbone",
    "ResNetBackbone",
    "SEAttention",
    "Spec",
    "WRNBackbone",
]

FORMAT = 1

Precision = Literal["fp32", "tf32", "bf16"]


class InvalidSpecError(UsageError):
    """A spec has an unknown, missing or ill-typed field."""


class DataSpec(Frozen):
    """What is trained on.

    Attributes:
        dataset: the data's name: that of a source in `data.registry` (`digits`, `cifar100`, …),
            `folder:NAME` for a user's own images, or `packed:NAME` for images that were resized
            and packed.
        classes: how many classes it has.
        image_size: side of the square images that the network sees, in pixels.
        augmentation: how training images are varied; `none`, `shift1` (moved by up to one
            pixel), `crop4-flip` (the CIFAR standard: pad 4, random crop, horizontal flip) or
            `resized-crop-flip` (the ImageNet standard).
        content_hash: SHA-256 of a user's own or of packed images; None for data that everybody has.
    """

    dataset: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*(:.+)?$")]
    classes: Count
    image_size: Count
    augmentation: Literal["none", "shift1", "crop4-flip", "resized-crop-flip"]
    content_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


class ModelSpec(Frozen):
    """A network: a backbone, its attention, and what is taken away from it."""

    backbone: Backbone
    attention: Attention
    norm: bool = True
    skip: bool = True


class RecipeSpec(Frozen):
    """How a network is trained: SGD with momentum, the rate cut by `gamma` at milestones.

    Attributes:
        milestones: epochs, counted from 0, at whose start the rate is multiplied by `gamma`.
        weight_decay: on every parameter, BN and biases too.
    """

    epochs: Count
    batch_size: Count
    lr: Rate
    momentum: Rate
    weight_decay: Rate
    milestones: tuple[Annotated[int, Field(ge=0)], ...]
    gamma: Rate

    def rate_in(self, epoch: int) -> float:
        """The learning rate during an epoch, counted from 0 (Tables 10 and 11)."""
        cuts = sum(epoch >= milestone for milestone in self.milestones)
        return self.lr * self.gamma**cuts


class Spec(Frozen):
    """One experiment. Frozen, hashable, and equal to another exactly when `spec_id` is."""

    data: DataSpec
    model: ModelSpec
    recipe: RecipeSpec
    precision: Precision

    def canonical_json(self) -> str:
        """Every field, keys sorted, no white space."""
        fields = self.model_dump(mode="json")
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @property
    def spec_id(self) -> str:
        """Format version, a dash, and 16 hexadecimal digits of the canonical JSON's SHA-256."""
        digest = hashlib.sha256(self.canonical_json().encode()).hexdigest()
        return f"{FORMAT}-{digest[:16]}"

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """The spec that a canonical (or any equivalent) JSON text describes.

        Raises:
            InvalidSpecError: a field is unknown, missing or ill-typed; the message names it.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(str(part) for part in first["loc"]) or "the text"
            raise InvalidSpecError(f"spec field {field}: {first['msg']}") from error
