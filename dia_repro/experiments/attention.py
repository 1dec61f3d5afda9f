"""Attention kinds: the options of each, and the registry of known kinds; no torch.

The options of the paper's kinds are here, so that a spec is read without torch. A user's kind is
registered with its unit: `dia_repro.models.attention.registry.register`.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError, from_json

from dia_repro import plugins
from dia_repro.errors import AbsentError, UsageError

# Stages in any order, each named once or more, are the same experiment.
Stages = Annotated[
    tuple[Annotated[int, Field(ge=1, le=4)], ...],
    Field(min_length=1),
    AfterValidator(lambda stages: tuple(sorted(set(stages)))),
]
# A column of a database or DataFrame holds no more.
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
# -0.0 equals 0.0 but is written otherwise: adding 0.0 leaves one of them.
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(lambda x: x + 0.0)]
OPTION = re.compile(r"{(\w+)")  # in a template of an attention's name
LONGEST_SHOWN = 100  # characters of a refused text
BETWEEN_OPTIONS = re.compile(r",(?![^\[]*\])")  # not within the brackets of an option
# Validation context of a spec that a database has, whose attention need not be known here.
AS_STORED = {"as": "stored"}


class KindNotRegisteredError(AbsentError):
    """A spec has an attention kind that is not known here."""


class AttentionOptionError(UsageError):
    """An attention kind does not have that option, or not that value of it."""


class Frozen(BaseModel):
    """Part of a spec: immutable, without unknown fields or conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class AttentionSpec(Frozen):
    """Attention kind and its options.

    Attributes:
        titles: name of each kind that has these options, by them, e.g. "constant {value:g}".
        details: what is always said of other options, by them, e.g. "r={reduction}"; the rest
            is named where it is not the default.
        added: options that are younger than results of the kind, each with the value that those
            results stand for. A spec with that value is written without the option, so that it
            stays the same experiment.
    """

    titles: ClassVar[dict[str, str]] = {}
    details: ClassVar[str] = ""
    added: ClassVar[dict[str, object]] = {}
    kind: str

    @property
    def changed(self) -> dict[str, object]:
        """Return the options that differ from their defaults."""
        usual = type(self)(kind=self.kind).model_dump()
        return {name: value for name, value in self.model_dump().items() if value != usual[name]}

    @property
    def title(self) -> str:
        """Return the name for people, e.g. "SENet", "constant 0.25"."""
        return self.titles.get(self.kind, self.kind).format(**vars(self))

    @property
    def detail(self) -> str:
        """Return what else is said of the attention, e.g. "r=16", "kernel=5"; maybe nothing."""
        said = OPTION.findall(self.titles.get(self.kind, "") + self.details)
        rest = (f"{name}={value}" for name, value in self.changed.items() if name not in said)
        return " ".join([*self.details.format(**vars(self)).split(), *rest])

    @property
    def label(self) -> str:
        """Return the name with the options, e.g. "SENet r=16"."""
        return f"{self.title} {self.detail}".strip()

    @property
    def heading(self) -> str:
        """Return the name in a table: "ECA", or "ECA kernel=5" with another kernel size."""
        return self.label if self.changed else self.title

    @property
    def text(self) -> str:
        """Return the kind and the options as `--attention` takes them, e.g. "eca:kernel=5"."""
        options = ",".join(
            f"{name}={value if isinstance(value, str) else json.dumps(value)}"
            for name, value in self.changed.items()
        )
        return f"{self.kind}:{options}" if options else self.kind

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by kind: another process finds the class of a user's kind by its name."""
        return make_attention, (self.model_dump(),)


class StoredAttention(AttentionSpec):
    """Attention of a spec in a database: any kind with any options, registered or not.

    It can be listed, but no network can be built of it.
    """

    model_config = ConfigDict(extra="allow")
    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]

    @property
    def changed(self) -> dict[str, object]:
        """Return all options: their defaults are not known."""
        return dict(self.model_extra or {})


class NoAttention(AttentionSpec):
    """The paper's "Org" or "original"."""

    titles = {"none": "original"}
    kind: Literal["none"] = "none"


class SEAttention(AttentionSpec):
    """SE or DIA-SE: a Squeeze-and-Excitation module in each block, or one in each stage."""

    titles = {"se": "SENet", "dia-se": "DIA-SE"}
    details = "r={reduction}"
    kind: Literal["se", "dia-se"]
    reduction: Count = 16
    bias: bool = True


class DIALSTMAttention(AttentionSpec):
    """DIA-LSTM.

    Attributes:
        reduction: r.
        activation: at the cell's output (Table 6).
        cells: number of stacked cells (Table 6).
        stages: the stages, from 1, that have a unit (Table 7); None for all.
        extraction: F_ext of Figure 2, with or without a BN before the pooling.
    """

    titles = {"dia-lstm": "DIANet"}
    kind: Literal["dia-lstm"] = "dia-lstm"
    reduction: Count = 4
    activation: Literal["sigmoid", "tanh", "relu"] = "sigmoid"
    cells: Count = 1
    stages: Stages | None = None
    extraction: Literal["gap", "bn+gap"] = "gap"

    @property
    def detail(self) -> str:
        """Return e.g. "r=4", with the activation, cells, stages and extraction if unusual."""
        parts = [f"r={self.reduction}"]
        parts += [] if self.activation == "sigmoid" else [self.activation]
        parts += [] if self.cells == 1 else [f"{self.cells} cells"]
        parts += [f"stages {','.join(map(str, self.stages))}"] if self.stages else []
        parts += [] if self.extraction == "gap" else ["BN+GAP"]
        return " ".join(parts)


# The options of each kind of this package (`controls` adds its own), and of each known kind.
SHIPPED: dict[str, type[AttentionSpec]] = {
    kind: options
    for options in (NoAttention, SEAttention, DIALSTMAttention)
    for kind in options.titles
}
KINDS = dict(SHIPPED)


def options_of(kind: object) -> type[AttentionSpec]:
    """Return the class of a kind's options; load plugins if it is not known yet.

    Raises:
        KindNotRegisteredError: no plugin registers it.
    """
    if kind not in KINDS:
        plugins.load_units()
    if isinstance(kind, str) and kind in KINDS:
        return KINDS[kind]
    near = get_close_matches(str(kind), KINDS, n=1, cutoff=0.7)
    meant = f"did you mean {near[0]!r}? Else " if near else ""
    raise KindNotRegisteredError(
        f"attention kind {kind!r} is not registered here ({', '.join(KINDS)} are): {meant}"
        "set DIA_REPRO_PLUGINS to the file or folder that registers it"
    )


def make_attention(fields: dict[str, Any]) -> AttentionSpec:
    """Return the attention of a kind with its options.

    Args:
        fields: `kind`, and options that differ from their defaults.

    Raises:
        KindNotRegisteredError: the kind is not known.
        pydantic.ValidationError: it does not have such an option.
    """
    return options_of(fields.get("kind")).model_validate(fields)


def parse_attention(text: str) -> AttentionSpec:
    """Return the attention that a text like `dia-lstm:reduction=8,stages=[1,3]` names.

    Raises:
        KindNotRegisteredError: the kind is not known.
        AttentionOptionError: the kind does not have such an option.
    """
    kind, _, rest = text.partition(":")
    options, fields = options_of(kind), {"kind": kind}
    for option in BETWEEN_OPTIONS.split(rest) if rest else ():
        name, equals, value = option.partition("=")
        if not equals:
            raise AttentionOptionError(f"attention {text!r}: write option=value, not {option!r}")
        try:
            fields[name.strip()] = from_json(value)
        except ValueError:  # a word, which needs no quotation marks here
            fields[name.strip()] = value.strip()
    try:
        return options.model_validate_json(json.dumps(fields))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = (name, *first["loc"])[-1]  # lists within lists, too many, have no location
        known = ", ".join(name for name in options.model_fields if name != "kind") or "none"
        shown = text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
        raise AttentionOptionError(
            f"attention {shown!r}, option {option}: {first['msg']} (its options: {known})"
        ) from error


def _validate(value: object, info: ValidationInfo) -> AttentionSpec:
    """Accept an instance of a registered kind, or its fields; of a stored spec any kind."""
    if isinstance(value, AttentionSpec):
        if type(value) is not options_of(value.kind):
            raise KindNotRegisteredError(f"attention kind {value.kind!r} is registered again")
        return value
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        raise PydanticCustomError("attention", "attention needs a kind")
    try:
        if info.context is AS_STORED:
            return _stored(value)
        options = options_of(value["kind"])
        # As JSON, where a tuple is written as a list.
        return options.model_validate_json(json.dumps({**options.added, **value}))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        message = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".replace("{", "{{")
        raise PydanticCustomError("attention", message.replace("}", "}}")) from error


def _stored(fields: dict[str, Any]) -> AttentionSpec:
    """Return the attention of a spec in a database, without a look at the registry."""
    text = json.dumps(fields)
    with suppress(KeyError, ValidationError):  # another's kind, or options of another version
        return SHIPPED[fields["kind"]].model_validate_json(text)
    return StoredAttention.model_validate_json(text)


Attention = Annotated[SerializeAsAny[AttentionSpec], BeforeValidator(_validate)]
