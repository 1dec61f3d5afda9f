"""Options of a user's attention kinds: types whose equal values have one text.

A spec is hashed as text. Types whose equal values are written differently (3 and 3.0, the items of
a set in any order) would give one experiment several hashes, and are refused.
"""

from __future__ import annotations

from enum import StrEnum
from math import isfinite
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ConfigDict, field_validator

from dia_repro.experiments.attention import AttentionSpec

NUMBERS = (bool, int, float)


class OwnOptions(AttentionSpec):
    """Options of a kind that is registered with its unit."""

    model_config = ConfigDict(validate_default=True)

    @field_validator("*", mode="after")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        """Return a value without negative zeros, which equal 0.0; refuse nan and infinity."""
        if isinstance(value, tuple):
            return tuple(map(cls._plain, value))
        if not isinstance(value, float):
            return value
        if not isfinite(value):
            raise ValueError(f"{value} is not a finite number")
        return value + 0.0


def has_one_text(hint: Any) -> bool:
    """Return whether exactly the equal values of a type are written alike as JSON."""
    kinds = _kinds(hint)
    several_numbers = len(set(NUMBERS) & set(kinds)) > 1
    return None not in kinds and not several_numbers and kinds.count(tuple) <= 1


def _kinds(hint: Any) -> list[type | None]:
    """Return the types that values of an annotation have; None for one that no option may have."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _kinds(arguments[0])
    if origin in (Union, UnionType):
        return [kind for argument in arguments for kind in _kinds(argument)]
    if origin is Literal:
        return [kind for value in arguments for kind in _kinds(type(value))]
    items = [argument for argument in arguments if argument is not ...]
    if origin is tuple and items and all(map(has_one_text, items)):
        return [tuple]
    named = isinstance(hint, type) and issubclass(hint, StrEnum)
    return [hint if named or hint in (*NUMBERS, str, NoneType) else None]
