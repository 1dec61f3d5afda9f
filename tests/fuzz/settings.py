"""How much fuzzing: the same few examples by default, many new ones with `-m slow`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

_NEVER_MIND = [
    HealthCheck.too_slow,
    HealthCheck.function_scoped_fixture,
    HealthCheck.data_too_large,
]


def quick(examples: int) -> settings:
    """The same in every run of the tests, so that a failure is the change's."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=_NEVER_MIND,
    )


def thorough(examples: int) -> settings:
    """Others in every run."""
    return settings(max_examples=examples, deadline=None, suppress_health_check=_NEVER_MIND)


def fuzz(how: settings, inputs: SearchStrategy[Any], check: Callable[[Any], None]) -> None:
    """Call `check` with many inputs; it raises where one is not dealt with as it should be."""

    @how
    @given(inputs)
    def check_drawn(drawn: Any) -> None:
        check(drawn)

    check_drawn()
