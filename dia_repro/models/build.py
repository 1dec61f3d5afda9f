"""Networks from a spec, and by name for other people's training code."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import nn

# Each family registers its backbones.
import dia_repro.models.imagenet
import dia_repro.models.preresnet
import dia_repro.models.resnet
import dia_repro.models.resnext
import dia_repro.models.wrn  # noqa: F401
from dia_repro.errors import UsageError
from dia_repro.experiments.attention import KINDS, KindNotRegisteredError, options_of
from dia_repro.experiments.backbones import FAMILIES, IMAGENET_NAMES, Backbone, BackboneSpec
from dia_repro.experiments.spec import ModelSpec
from dia_repro.models.attention import AttentionFactory
from dia_repro.models.blocks import Options
from dia_repro.models.network import StagedNetwork, architecture

EXAMPLES = (
    "resnet164",
    "preresnet164",
    "wrn52-4",
    "resnext101-8x32d",
    *map(str.lower, IMAGENET_NAMES.values()),
)
# Options of a backbone that its name settles in each family that has them.
SETTLED = {"family", "depth", "cardinality"}


class UnknownNetworkError(UsageError, ValueError):
    """No network has that name, or it does not have that option."""


def from_spec(model: ModelSpec, classes: int) -> StagedNetwork:
    """Return the network of a model spec, with weights from torch's global random state.

    Args:
        model: backbone, attention, norm and skip.
        classes: outputs of the classifier.

    Raises:
        ImpossibleNetworkError: the backbone's depth does not divide into whole blocks, or it has
            fewer stages than are to have attention.
        KindNotRegisteredError: the attention kind is not known here.
    """
    options = Options(norm=model.norm, skip=model.skip)
    parts = architecture(model.backbone, options)
    return StagedNetwork(parts, AttentionFactory(model.attention), classes)


def build(
    name: str,
    *,
    classes: int = 100,
    attention: str = "none",
    norm: bool = True,
    skip: bool = True,
    **options: Any,
) -> nn.Module:
    """Return a network of the paper by name, from images (B, 3, H, W) to logits (B, classes).

    Weights are drawn from torch's global random state.

    Args:
        name: for CIFAR's stem, 3×3 without pooling: `resnet164`, `preresnet164` (any depth
            9n+2), `wrn52-4` (depth 6n+4, widen factor), `resnext101-8x32d` (depth 9n+2,
            cardinality); for ImageNet's: `resnet34`, `resnet50`, `resnet152`,
            `resnext50-32x4d`.
        classes: outputs of the classifier.
        attention: `none`, `se`, `dia-se`, `dia-lstm`, a control's kind such as `constant`, or a
            registered kind.
        norm: False leaves out every BN (Table 8).
        skip: False leaves out every shortcut (Figure 6).
        options: of the attention: `reduction`; `bias` (se, dia-se); `activation`, `cells`,
            `stages`, `extraction` (dia-lstm). Of the backbone: `block` (`resnet`; `basic`
            takes depth 6n+2), `dropout` (`wrn`), `widen_factor` (`resnext`), `conv_bias`
            (ImageNet's).

    Raises:
        UnknownNetworkError: the name, or an option, is not one of these.
        ImpossibleNetworkError: the depth does not divide into whole blocks, or `stages` has one
            that the network lacks.
    """
    unit, (family, trunk) = {"kind": attention}, _parse(name)
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise UnknownNetworkError(f"{name} with {classes!r} classes: give a whole number from 1")
    try:
        kind = options_of(attention)
    except KindNotRegisteredError as error:
        known = ", ".join(KINDS)
        raise UnknownNetworkError(f"unknown attention {attention!r}: one of {known}") from error
    for option, value in options.items():
        if option in trunk or option in unit or option == "depth":
            raise UnknownNetworkError(f"{name} with attention {attention} settles {option} already")
        (unit if option in kind.model_fields else trunk)[option] = value
    try:
        model = ModelSpec(
            backbone=TypeAdapter(Backbone).validate_python(trunk),
            attention=kind.model_validate(unit),
            norm=norm,
            skip=skip,
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        has = sorted(kind.model_fields.keys() - {"kind"} | family.model_fields.keys() - SETTLED)
        raise UnknownNetworkError(
            f"{name} with attention {attention}, option {first['loc'][-1]}: {first['msg']} "
            f"(its options: {', '.join(['norm', 'skip', *has])})"
        ) from error
    return from_spec(model, classes)


def _parse(name: str) -> tuple[type[BackboneSpec], dict[str, Any]]:
    for family in FAMILIES:
        fields = family.named(name)
        if fields is not None:
            return family, fields
    raise UnknownNetworkError(f"unknown network {name!r}: e.g. {', '.join(EXAMPLES)}")
