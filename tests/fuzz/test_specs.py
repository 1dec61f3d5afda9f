"""Specs from texts of all kinds: a spec whose canonical JSON is itself again, or one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st

from dia_repro.experiments.attention import KindNotRegisteredError
from dia_repro.experiments.spec import InvalidSpecError, Spec
from tests.experiments.test_spec import specs
from tests.fuzz.settings import fuzz, quick, thorough

NAMES = [
    *("data", "model", "recipe", "precision", "backbone", "attention", "family", "kind", "depth"),
    *("stages", "reduction", "milestones", "classes", "dataset", "lr", "content_hash", "norm", "é"),
]
numbers = st.one_of(
    st.integers(),
    st.sampled_from([10**30, -(10**30), 10**400, 2**63, 0, -1, 1e308, 5e-324]),
    st.floats(),  # nan and infinity too
)
leaves = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=20), st.sampled_from(NAMES))
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=4),
    ),
    max_leaves=12,
)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """The fields of a spec, some of them removed, added, or something else."""
    fields = json.loads(draw(specs).canonical_json())
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.sampled_from(list(objects(fields))))
        action = draw(st.sampled_from(["remove", "add", "replace", "move"]))
        key = draw(st.sampled_from([*place, *NAMES]))
        if action == "remove":
            place.pop(key, None)
        elif action == "move":
            place[key] = place.pop(draw(st.sampled_from([*place, "precision"])), None)
        else:
            place[key] = draw(values)
    return fields


def objects(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, dict):
        return []
    return [value, *(nested for inner in value.values() for nested in objects(inner))]


def spec_or_sentence(text: str) -> None:
    try:
        spec = Spec.from_json(text)
    except (InvalidSpecError, KindNotRegisteredError) as error:
        message = str(error)
        assert len(message.splitlines()) == 1
        unknown = isinstance(error, KindNotRegisteredError)
        assert message.startswith("attention kind " if unknown else "spec field ")
        assert len(message) < 1000
        return
    again = Spec.from_json(spec.canonical_json())
    assert again == spec
    assert again.spec_id == spec.spec_id
    assert again.canonical_json() == spec.canonical_json()


def check_mutated(fields: Any) -> None:
    spec_or_sentence(json.dumps(fields))


def check_text(text: str) -> None:
    spec_or_sentence(text)


def check_bytes(parts: tuple[Spec, bytes, int]) -> None:
    """A file that is not UTF-8, read as Python reads names of files."""
    spec, noise, place = parts
    raw = spec.canonical_json().encode()
    place %= len(raw)
    spec_or_sentence((raw[:place] + noise + raw[place:]).decode(errors="surrogateescape"))


texts = st.text() | st.builds(lambda s, n: s.canonical_json()[: n % 600], specs, st.integers(0))
spoilt = st.tuples(specs, st.binary(min_size=1, max_size=4), st.integers(0, 10_000))


@pytest.mark.parametrize(
    ("inputs", "check"), [(mutated(), check_mutated), (texts, check_text), (spoilt, check_bytes)]
)
def test_a_spec_or_one_sentence(inputs: Any, check: Callable[[Any], None]) -> None:
    fuzz(quick(80), inputs, check)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("inputs", "check"), [(mutated(), check_mutated), (texts, check_text), (spoilt, check_bytes)]
)
def test_a_spec_or_one_sentence_at_length(inputs: Any, check: Callable[[Any], None]) -> None:
    fuzz(thorough(5000), inputs, check)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"data":' * 50_000,
        '{"data": ' + "9" * 5000 + "}",
        '{"precision": "' + "x" * 1_000_000 + '"}',
        '{"data": NaN}',
        '{"data": Infinity, "precision": -Infinity}',
        '{"precision": "\\ud800"}',
        '{"\\ud800": 1}',
        "\ufeff{}",
        "\0",
        '{"data": {}, "data": {}}',
    ],
)
def test_odd_texts_are_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(InvalidSpecError):
        Spec.from_json(text)
    spec_or_sentence(text)


@pytest.mark.parametrize("digits", [20, 400, 4000, 5000])
def test_numbers_of_any_length_keep_a_spec_what_it_is(digits: int) -> None:
    fields = json.loads(Spec.from_json(KNOWN).canonical_json())
    text = json.dumps(fields).replace('"classes": 10', f'"classes": {"9" * digits}')
    assert "999" in text
    spec_or_sentence(text)


KNOWN = """{"data": {"dataset": "digits", "classes": 10, "image_size": 8, "augmentation": "none"},
"model": {"backbone": {"family": "resnet", "depth": 83}, "attention": {"kind": "none"}},
"recipe": {"epochs": 8, "batch_size": 64, "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0001,
"milestones": [5, 7], "gamma": 0.1}, "precision": "fp32"}"""
