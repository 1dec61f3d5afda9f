"""Networks by name, for other people's training code."""

from __future__ import annotations

import re
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError
from torch import nn

from dia_repro.errors import UsageError
from dia_repro.experiments.spec import Attention, Backbone, ModelSpec
from dia_repro.models.build import from_spec

KINDS = tuple(
    kind
    for variant in get_args(get_args(Attention)[0])
    for kind in get_args(variant.model_fields["kind"].annotation)
)
IMAGENET_NAMES = {
    "resnet34": "resnet34",
    "resnet50": "resnet50",
    "resnet152": "resnet152",
    "resnext50-32x4d": "resnext50",
}
CIFAR_NAMES = (
    r"(?P<family>resnet|preresnet)(?P<depth>\d{1,5})",
    r"(?P<family>wrn)(?P<depth>\d{1,5})-(?P<widen_factor>\d{1,5})",
    r"(?P<family>resnext)(?P<depth>\d{1,5})-(?P<cardinality>\d{1,5})x32d",
)
EXAMPLES = "resnet164, preresnet164, wrn52-4, resnext101-8x32d, " + ", ".join(IMAGENET_NAMES)


class UnknownNetworkError(UsageError, ValueError):
    """No network has that name, or it does not have that option."""


def build(
    name: str,
    *,
    classes: int = 100,
    attention: str = "none",
    norm: bool = True,
    skip: bool = True,
    **options: Any,
) -> nn.Module:
    """One of the paper's networks, from images (B, 3, H, W) to logits (B, classes).

    Weights are drawn from torch's global random state.

    Args:
        name: for CIFAR's stem, 3×3 without pooling: `resnet164`, `preresnet164` (any depth
            9n+2), `wrn52-4` (depth 6n+4, widen factor), `resnext101-8x32d` (depth 9n+2,
            cardinality); for ImageNet's: `resnet34`, `resnet50`, `resnet152`,
            `resnext50-32x4d`.
        classes: outputs of the classifier.
        attention: `none`, `se`, `dia-se` or `dia-lstm`.
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
    unit, trunk = {"kind": attention}, _parse(name)
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise UnknownNetworkError(f"{name} with {classes!r} classes: give a whole number from 1")
    if attention not in KINDS:
        raise UnknownNetworkError(f"unknown attention {attention!r}: one of {', '.join(KINDS)}")
    attention_options = _fields(Attention, "kind", attention)
    for option, value in options.items():
        if option in trunk or option in unit or option == "depth":
            raise UnknownNetworkError(f"{name} with attention {attention} settles {option} already")
        (unit if option in attention_options else trunk)[option] = value
    try:
        backbone: Backbone = TypeAdapter(Backbone).validate_python(trunk)
        chosen: Attention = TypeAdapter(Attention).validate_python(unit)
        model = ModelSpec(backbone=backbone, attention=chosen, norm=norm, skip=skip)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        has = sorted(attention_options | _fields(Backbone, "family", trunk["family"]))
        raise UnknownNetworkError(
            f"{name} with attention {attention}, option {first['loc'][-1]}: {first['msg']} "
            f"(its options: {', '.join(['norm', 'skip', *has])})"
        ) from error
    return from_spec(model, classes)


def _parse(name: str) -> dict[str, Any]:
    if name in IMAGENET_NAMES:
        return {"family": IMAGENET_NAMES[name]}
    for pattern in CIFAR_NAMES:
        found = re.fullmatch(pattern, name, re.ASCII)
        if found:
            parts = found.groupdict()
            return {"family": parts.pop("family"), **{k: int(v) for k, v in parts.items()}}
    raise UnknownNetworkError(f"unknown network {name!r}: e.g. {EXAMPLES}")


def _fields(variants: Any, key: str, value: str) -> set[str]:
    """The options of the variant that `key: value` picks, without what the name settles."""
    union, *_ = get_args(variants)
    for variant in get_args(union):
        if value in get_args(variant.model_fields[key].annotation):
            return set(variant.model_fields) - {key, "depth", "cardinality"}
    return set()
