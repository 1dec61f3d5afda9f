"""Backbones of the paper: names, options and geometry of each family; no torch."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from dia_repro.errors import UsageError
from dia_repro.experiments.attention import Count, Frozen, Rate


class ImpossibleNetworkError(UsageError, ValueError):
    """There is no network of that depth, or it lacks a stage that must have attention."""


IMAGENET_NAMES = {
    "resnet34": "ResNet34",
    "resnet50": "ResNet50",
    "resnet152": "ResNet152",
    "resnext50": "ResNeXt50-32x4d",
}


class BackboneSpec(Frozen):
    """Family of networks and its options.

    Attributes:
        template: name of a network by its options.
        stages: number of stages.
        stride: factor between the sides of a network's first and last feature maps.
    """

    template: ClassVar[str] = ""
    stages: ClassVar[int]
    stride: ClassVar[int]
    family: str

    @property
    def label(self) -> str:
        """Return the network's name, e.g. "ResNet164", "WRN52-4"."""
        return self.template.format(**self.model_dump())

    @classmethod
    def named(cls, name: str) -> dict[str, Any] | None:
        """Return the options that a network's name settles; None for another family's name.

        Capital letters do not matter.
        """
        pattern = re.sub(r"{(\w+)}", r"(?P<\1>\\d{1,5})", cls.template)
        found = re.fullmatch(pattern, name, re.ASCII | re.IGNORECASE)
        if found is None:
            return None
        fields = {option: int(text) for option, text in found.groupdict().items()}
        return {"family": cls.model_fields["family"].default, **fields}


class CIFARBackbone(BackboneSpec):
    """Network for 32×32 images: three stages with equally many blocks.

    Attributes:
        layers: convolutions in a block.
        outside: layers outside the blocks (2 in 9n+2).
    """

    stages, stride = 3, 4
    layers: ClassVar[int] = 3
    outside: ClassVar[int] = 2
    depth: Count

    @property
    def blocks(self) -> int:
        """Return the number of blocks in a stage.

        Raises:
            ImpossibleNetworkError: the depth does not divide into whole blocks.
        """
        of_one = self.stages * self.layers
        blocks, rest = divmod(self.depth - self.outside, of_one)
        if rest or blocks < 1:
            raise ImpossibleNetworkError(f"depth {self.depth} is not {of_one}n+{self.outside}")
        return blocks

    def with_blocks(self, blocks: int) -> Self:
        """Return the backbone that differs only in the number of blocks in a stage."""
        depth = self.stages * self.layers * blocks + self.outside
        return self.model_copy(update={"depth": depth})


class ResNetBackbone(CIFARBackbone):
    """CIFAR ResNet: depth 9n+2 with bottleneck blocks, 6n+2 with basic blocks."""

    template = "ResNet{depth}"
    family: Literal["resnet"] = "resnet"
    block: Literal["bottleneck", "basic"] = "bottleneck"

    @property
    def layers(self) -> int:  # type: ignore[override]
        """Return the number of convolutions in a block."""
        return 2 if self.block == "basic" else 3

    @property
    def label(self) -> str:
        """Return the network's name, e.g. "ResNet164", "ResNet56 basic"."""
        return f"{super().label}{' basic' if self.block == 'basic' else ''}"


class PreResNetBackbone(CIFARBackbone):
    """CIFAR PreResNet with bottleneck blocks: depth 9n+2."""

    template = "PreResNet{depth}"
    family: Literal["preresnet"] = "preresnet"


class WRNBackbone(CIFARBackbone):
    """CIFAR wide ResNet: depth 6n+4."""

    template = "WRN{depth}-{widen_factor}"
    layers = 2
    outside = 4
    family: Literal["wrn"] = "wrn"
    widen_factor: Count = 4
    dropout: Annotated[Rate, Field(lt=1)] = 0.3


class ResNeXtBackbone(CIFARBackbone):
    """CIFAR ResNeXt: depth 9n+2."""

    template = "ResNeXt{depth}-{cardinality}x32d"
    family: Literal["resnext"] = "resnext"
    cardinality: Count = 8
    widen_factor: Count = 4


class ImageNetBackbone(BackboneSpec):
    """ImageNet ResNet or ResNeXt.

    Attributes:
        conv_bias: whether convolutions have a bias, as some of the paper's #P need.
    """

    stages, stride = 4, 32
    family: Literal["resnet34", "resnet50", "resnet152", "resnext50"]
    conv_bias: bool = False

    @property
    def label(self) -> str:
        """Return the network's name, e.g. "ResNet50"."""
        return IMAGENET_NAMES[self.family]

    @classmethod
    def named(cls, name: str) -> dict[str, Any] | None:
        """Return the family that a network's name settles; None for another family's name."""
        found = (f for f, known in IMAGENET_NAMES.items() if known.lower() == name.lower())
        return next(({"family": family} for family in found), None)


# ImageNet's first: "resnet50" is one of them.
FAMILIES: tuple[type[BackboneSpec], ...] = (
    ImageNetBackbone,
    ResNetBackbone,
    PreResNetBackbone,
    WRNBackbone,
    ResNeXtBackbone,
)
Backbone = Annotated[
    ResNetBackbone | PreResNetBackbone | WRNBackbone | ResNeXtBackbone | ImageNetBackbone,
    Field(discriminator="family"),
]
