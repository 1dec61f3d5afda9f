"""The Spec: one experiment, complete and frozen, and the hash that names it.

Two experiments are the same exactly when their canonical JSON is: keys sorted, no white space,
every field written, defaults too (else a changed default would give older results another meaning).
Machine, device, worker count and seed are no part of it. A field that only some networks have
belongs to their variant, so that no two specs differ in a field that changes nothing.

A database's spec is read without the registry of attention kinds (`Spec.from_stored`), and its text
gives its id: a run stays valid when its kind is not registered or has new options, which
`AttentionSpec.added` keeps from changing older ids.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from dia_repro.errors import UsageError
from dia_repro.experiments.attention import (
    AS_STORED,
    Attention,
    AttentionSpec,
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
    ImpossibleNetworkError,
    PreResNetBackbone,
    ResNetBackbone,
    ResNeXtBackbone,
    WRNBackbone,
)
from dia_repro.experiments.controls import ExtraBN

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
    "describe_stored",
    "spec_id_of",
]

FORMAT = 1

Precision = Literal["fp32", "tf32", "bf16"]


class InvalidSpecError(UsageError):
    """A spec has an unknown, missing or ill-typed field."""


def spec_id_of(canonical: str) -> str:
    """Return the id of a spec by its canonical JSON."""
    return f"{FORMAT}-{hashlib.sha256(canonical.encode()).hexdigest()[:16]}"


class DataSpec(Frozen):
    """Training and test data.

    Attributes:
        dataset: name of a source in `data.registry` (`digits`, `cifar100`, …), `folder:NAME` for a
            user's images, or `packed:NAME` for images that were resized and packed.
        classes: number of classes.
        image_size: side of the square images that the network sees, in pixels.
        augmentation: of training images: `none`, `shift1` (moved by up to one pixel),
            `crop4-flip` (the CIFAR standard: pad 4, random crop, horizontal flip) or
            `resized-crop-flip` (the ImageNet standard).
        content_hash: SHA-256 of a user's or of packed images; None for public data.
        validation: per cent of the training images that are held out and choose the epoch whose
            network is tested; None trains on all of them and tests after every epoch.
    """

    dataset: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*(:.+)?$")]
    classes: Count
    image_size: Count
    augmentation: Literal["none", "shift1", "crop4-flip", "resized-crop-flip"]
    content_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    validation: Annotated[int, Field(ge=1, le=50)] | None = None

    @property
    def label(self) -> str:
        """Return e.g. "cifar100" or "cifar100 not augmented", "digits 32×32"."""
        parts = [self.dataset]
        if self.content_hash or (self.dataset, self.image_size) == ("digits", 32):
            parts.append(f"{self.image_size}×{self.image_size}")
        if self.augmentation == "none" and self.dataset != "digits":
            parts.append("not augmented")
        if self.validation is not None:
            parts.append(f"{self.validation}% held out")
        return " ".join(parts)

    def held_out(self, images: int) -> int:
        """Return how many of that number of training images are held out."""
        return images * (self.validation or 0) // 100


class ModelSpec(Frozen):
    """A network: its backbone and attention, with or without normalisation and skips."""

    backbone: Backbone
    attention: Attention
    norm: bool = True
    skip: bool = True

    @model_validator(mode="after")
    def _as_usual(self) -> Self:
        """Give options that change nothing on this network their defaults."""
        attention = self.attention
        if isinstance(attention, DIALSTMAttention):
            every = tuple(range(1, self.backbone.stages + 1))
            usual: dict[str, object] = {"stages": None} if attention.stages == every else {}
            usual |= {} if self.norm else {"extraction": "gap"}
            object.__setattr__(self, "attention", attention.model_copy(update=usual))
        if isinstance(attention, ExtraBN) and not self.norm:
            object.__setattr__(self, "attention", NoAttention())
        return self

    @property
    def label(self) -> str:
        """Return e.g. "DIANet ResNet164 r=4", with what is unusual about the network."""
        parts = [self.attention.title, self.backbone.label, self.attention.detail]
        parts += [] if self.norm else ["without BN"]
        parts += [] if self.skip else ["without skips"]
        return " ".join(filter(None, parts))

    def with_attention(self, attention: AttentionSpec) -> ModelSpec:
        """Return the network with another attention.

        Raises:
            ImpossibleNetworkError: it lacks a stage that is to have attention.
        """
        last, there = max(getattr(attention, "stages", None) or (1,)), self.backbone.stages
        if last > there:
            raise ImpossibleNetworkError(f"stage {last} is to have attention, of {there} stages")
        return ModelSpec(**{**dict(self), "attention": attention})


class RecipeSpec(Frozen):
    """Training recipe: SGD with momentum, the rate cut by `gamma` at milestones.

    Attributes:
        milestones: epochs, counted from 0, at whose start the rate is multiplied by `gamma`.
        weight_decay: on every parameter, BN and biases too.
    """

    epochs: Count
    batch_size: Count
    lr: Rate
    momentum: Rate
    weight_decay: Rate
    milestones: Annotated[
        tuple[Annotated[int, Field(ge=0, le=2**31 - 1)], ...],
        AfterValidator(lambda epochs: tuple(sorted(epochs))),
    ]
    gamma: Rate

    @property
    def label(self) -> str:
        """Return e.g. "180 epochs of batch 128 at rate 0.1, 0.01 after epoch 60, …"."""
        epochs = f"{self.epochs} epoch{'' if self.epochs == 1 else 's'}"
        parts = [f"{epochs} of batch {self.batch_size} at rate {self.lr:g}"]
        # On a short schedule several cuts can meet.
        parts += [f"{self.rate_in(cut):g} after epoch {cut}" for cut in sorted({*self.milestones})]
        parts += [f"momentum {self.momentum:g}", f"weight decay {self.weight_decay:g}"]
        return ", ".join(parts)

    def rate_in(self, epoch: int) -> float:
        """Return the learning rate during an epoch, counted from 0 (Tables 10 and 11)."""
        cuts = sum(epoch >= milestone for milestone in self.milestones)
        return self.lr * self.gamma**cuts


class Spec(Frozen):
    """One experiment. Frozen, hashable, and equal to another exactly when `spec_id` is."""

    data: DataSpec
    model: ModelSpec
    recipe: RecipeSpec
    precision: Precision

    def canonical_json(self) -> str:
        """Return every field, keys sorted, no white space."""
        fields = self.model_dump(mode="json")
        attention = self.model.attention
        for name, earlier in attention.added.items():
            if getattr(attention, name) == earlier:
                del fields["model"]["attention"][name]
        if self.data.validation is None:  # an option that older specs do not have
            del fields["data"]["validation"]
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @property
    def label(self) -> str:
        """Return the network and data, e.g. "DIANet ResNet164 r=4 on cifar100"."""
        return f"{self.model.label} on {self.data.label}"

    @property
    def spec_id(self) -> str:
        """Format version, a dash, and 16 hexadecimal digits of the canonical JSON's SHA-256."""
        return spec_id_of(self.canonical_json())

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """Return the spec that a canonical (or any equivalent) JSON text describes.

        Raises:
            InvalidSpecError: a field is unknown, missing or ill-typed; the message names it.
            KindNotRegisteredError: its attention kind is not known here.
        """
        return cls._read(text, None)

    @classmethod
    def from_stored(cls, text: str) -> Spec:
        """Return the spec of a database's row, to be listed or checked; no network is built of it.

        Its attention may be of a kind, or have options, that are not known here.

        Raises:
            InvalidSpecError: another field is unknown, missing or ill-typed.
        """
        return cls._read(text, AS_STORED)

    @classmethod
    def _read(cls, text: str, context: object) -> Spec:
        try:
            return cls.model_validate_json(text, context=context)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(str(part) for part in first["loc"]) or "the text"
            raise InvalidSpecError(f"spec field {field}: {first['msg']}") from error


def describe_stored(spec_id: str, text: str) -> str:
    """Return the network and data of a database's spec, or its id where it cannot be read."""
    try:
        return Spec.from_stored(text).label
    except InvalidSpecError:
        return f"spec {spec_id}, which cannot be read"
