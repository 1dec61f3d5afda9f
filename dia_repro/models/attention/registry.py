"""Registry of attention units."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_type_hints

from pydantic import PydanticUserError, ValidationError, create_model
from torch import nn

from dia_repro.errors import UsageError
from dia_repro.experiments.attention import (
    KINDS,
    AttentionSpec,
    KindNotRegisteredError,
    NoAttention,
    options_of,
)
from dia_repro.experiments.backbones import FAMILIES, ImpossibleNetworkError
from dia_repro.experiments.controls import ExtraBN
from dia_repro.experiments.own_options import OwnOptions, has_one_text
from dia_repro.plugins import Source, source_of

# Options that say where units are, not what they are.
PLACEMENT = {"kind", "stages", "extraction"}
UNITLESS = {*NoAttention.titles, *ExtraBN.titles}
KIND_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
# Other arguments of `build`, and methods of pydantic's.
TAKEN = PLACEMENT | {"name", "classes", "attention", "norm", "skip"}
TAKEN |= {"label", "heading", "changed", "title", "titles", "detail", "details", "text", "added"}

Unit = TypeVar("Unit", bound=type[nn.Module])


class RegistrationError(UsageError):
    """An attention kind cannot be registered: its name or an option clashes, or has no type."""


def reduced(channels: int, reduction: int) -> int:
    """Return C/r, rounded down: the width of a unit's bottleneck.

    Raises:
        ImpossibleNetworkError: nothing is left.
    """
    if reduction > channels:
        raise ImpossibleNetworkError(
            f"reduction {reduction} leaves none of a stage's {channels} channels"
        )
    return channels // reduction


@dataclass(frozen=True)
class Registered:
    """Unit of an attention kind.

    Attributes:
        make: the unit from its channels, and its options by name.
        shared: whether the blocks of a stage share one unit; else each has its own.
        source: the file that registered it, if that is not part of this package.
    """

    make: Callable[..., nn.Module]
    shared: bool
    source: Source | None


UNITS: dict[str, Registered] = {}


def register(
    kind: str,
    *,
    title: str = "",
    shared: bool = False,
    added: Mapping[str, object] | None = None,
) -> Callable[[Unit], Unit]:
    """Register a module as the unit of an attention kind.

    Its constructor takes the channels C first. Further arguments are the kind's options, each with
    a type and a default: they enter the spec and its hash, `build` and `--attention`. A type is
    bool, int, float, str, a StrEnum, a Literal, a tuple of these, or one of these or None: their
    values can be compared, and equal ones have one text. Its `forward`
    takes a block's pooled features (B, C) and the state that the block before returned (None at
    the first block of a stage), and returns channel weights (B, C) and the next state.

    Args:
        kind: name in specs and commands, e.g. "eca".
        title: name in tables, e.g. "ECA"; by default the kind in capitals.
        shared: whether the blocks of a stage share one unit; else each block has its own.
        added: options that the kind got when there were results already, each with the value that
            gives what those results were trained with; it never changes again, whatever the
            default. Without it, results that lack the option are another experiment.

    Raises:
        RegistrationError: the kind is registered already, another one has the title, its name is
            not made of lower-case letters, digits and hyphens, or an option clashes, has no
            default, or has no type or another one.
    """

    def add(unit: Unit) -> Unit:
        own = not unit.__module__.startswith("dia_repro.")
        source = source_of(unit) if own else None
        known = UNITS.get(kind)
        again = known is not None and source is not None and known.source == source
        if own or kind not in KINDS or known is not None:  # else its options are in `experiments`
            if kind in KINDS and not again:
                by = f" by {known.source.name}" if known and known.source else ""
                raise RegistrationError(f"attention kind {kind!r} is registered already{by}")
            KINDS[kind] = _options(kind, title or kind.upper(), unit, dict(added or {}))
        UNITS[kind] = Registered(unit, shared, source)
        return unit

    return add


def unit_of(kind: str) -> Registered | None:
    """Return the unit of a kind; None for those without a unit.

    Raises:
        KindNotRegisteredError: the kind is not known, or has options but no unit.
    """
    options_of(kind)
    if kind not in UNITLESS and kind not in UNITS:
        raise KindNotRegisteredError(f"attention kind {kind!r} has no registered unit")
    return UNITS.get(kind)


def _options(
    kind: str, title: str, unit: type[nn.Module], added: dict[str, object]
) -> type[AttentionSpec]:
    """Return the class of a kind's options, read from the unit's constructor."""

    def refusal(reason: str) -> RegistrationError:
        return RegistrationError(f"attention kind {kind!r}: {reason}")

    if not KIND_NAME.fullmatch(kind):
        raise refusal("name it with lower-case letters, digits and hyphens")
    same = [k for k, known in KINDS.items() if k != kind and known.titles.get(k) == title]
    if same:  # tables and lists would show both by one name
        raise refusal(f"the title {title!r} is that of {same[0]!r}, choose another")
    taken = TAKEN.union(*(family.model_fields for family in FAMILIES))
    _, *parameters = inspect.signature(unit).parameters.values()
    hints = get_type_hints(unit.__init__, include_extras=True)
    fields: dict[str, Any] = {"kind": (Literal[kind], kind)}
    for parameter in parameters:
        name = parameter.name
        if name in taken or name.startswith(("_", "model_")):
            raise refusal(f"option {name!r} has another meaning, rename it")
        if parameter.default is parameter.empty or name not in hints:
            raise refusal(f"option {name!r} needs a type and a default")
        if not has_one_text(hints[name]):
            raise refusal(
                f"option {name!r} has the type {inspect.formatannotation(hints[name])}, whose "
                "equal values can be written in several ways: use bool, int, float, str, Literal, "
                "a tuple of these, or None"
            )
        fields[name] = (hints[name], parameter.default)
    try:
        options: type[AttentionSpec] = create_model(
            f"{unit.__name__}Options", __base__=OwnOptions, __module__=unit.__module__, **fields
        )
        options.titles = {kind: title.replace("{", "{{").replace("}", "}}")}
        usual = options(kind=kind).model_dump(mode="json")
        earlier = options.model_validate_json(json.dumps({**usual, **added}))
        options.added = {name: getattr(earlier, name) for name in added}  # a list is a tuple now
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise refusal(f"default of option {first['loc'][0]!r}: {first['msg']}") from error
    except (TypeError, ValueError, PydanticUserError) as error:
        reason = str(error).splitlines()[0]
        raise refusal(f"its options cannot be written as JSON: {reason}") from error
    return options


@dataclass(frozen=True)
class AttentionFactory:
    """Maker of a network's attention units: one for each block, or one for each stage."""

    spec: AttentionSpec

    @property
    def stages(self) -> tuple[int, ...] | None:
        """Return the stages, counted from 1, that have attention; None for all (Table 7)."""
        return getattr(self.spec, "stages", None)

    def normalises(self, stage: int) -> bool:
        """Return whether blocks of a stage end their residual branch with an additional BN.

        F_ext is BN and GAP then: the BN's result is both pooled and rescaled.
        """
        return getattr(self.spec, "extraction", "gap") == "bn+gap" and self._covers(stage)

    def _covers(self, stage: int) -> bool:
        return self.stages is None or stage in self.stages

    def make(self, stage: int, channels: int, *, shared: bool) -> nn.Module | None:
        """Return the unit that a stage's blocks share, or a block's own; None without one."""
        unit = unit_of(self.spec.kind)
        if unit is None or unit.shared is not shared or not self._covers(stage):
            return None
        made = unit.make(channels, **self.spec.model_dump(exclude=PLACEMENT))
        _keep_buffers(made)
        return made


def _keep_buffers(unit: nn.Module) -> None:
    """Make every buffer of a unit part of checkpoints: a training that resumes needs it."""
    for module in unit.modules():
        for name, buffer in [*module._buffers.items()]:  # also None, and one tensor by two names
            module.register_buffer(name, buffer, persistent=True)
