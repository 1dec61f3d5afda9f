"""Specs: what makes two experiments the same, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dia_repro.experiments.backbones import ImpossibleNetworkError
from dia_repro.experiments.spec import (
    DataSpec,
    DIALSTMAttention,
    ImageNetBackbone,
    InvalidSpecError,
    ModelSpec,
    NoAttention,
    PreResNetBackbone,
    RecipeSpec,
    ResNetBackbone,
    ResNeXtBackbone,
    SEAttention,
    Spec,
    WRNBackbone,
)

counts = st.integers(min_value=1, max_value=10**6)
rates = st.one_of(
    st.sampled_from([0.0, -0.0, 0.1, 1e-4]),
    st.floats(min_value=0.0, allow_nan=False, allow_infinity=False),
)
stages = st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple)
attentions = st.one_of(
    st.builds(NoAttention),
    st.builds(
        SEAttention,
        kind=st.sampled_from(["se", "dia-se"]),
        reduction=counts,
        bias=st.booleans(),
    ),
    st.builds(
        DIALSTMAttention,
        reduction=counts,
        activation=st.sampled_from(["sigmoid", "tanh", "relu"]),
        cells=counts,
        stages=st.none() | stages,
        extraction=st.sampled_from(["gap", "bn+gap"]),
    ),
)
backbones = st.one_of(
    st.builds(ResNetBackbone, depth=counts, block=st.sampled_from(["bottleneck", "basic"])),
    st.builds(PreResNetBackbone, depth=counts),
    st.builds(WRNBackbone, depth=counts, widen_factor=counts, dropout=st.floats(0, 0.99)),
    st.builds(ResNeXtBackbone, depth=counts, cardinality=counts, widen_factor=counts),
    st.builds(
        ImageNetBackbone,
        family=st.sampled_from(["resnet34", "resnet50", "resnet152", "resnext50"]),
        conv_bias=st.booleans(),
    ),
)
specs = st.builds(
    Spec,
    data=st.builds(
        DataSpec,
        dataset=st.sampled_from(["digits", "cifar10", "cifar100", "imagenet", "folder:mine"]),
        content_hash=st.none() | st.just("0" * 64),
        classes=counts,
        image_size=counts,
        augmentation=st.sampled_from(["none", "shift1", "crop4-flip", "resized-crop-flip"]),
    ),
    model=st.builds(
        ModelSpec,
        backbone=backbones,
        attention=attentions,
        norm=st.booleans(),
        skip=st.booleans(),
    ),
    recipe=st.builds(
        RecipeSpec,
        epochs=counts,
        batch_size=counts,
        lr=rates,
        momentum=rates,
        weight_decay=rates,
        milestones=st.lists(st.integers(0, 300), max_size=4).map(tuple),
        gamma=rates,
    ),
    precision=st.sampled_from(["fp32", "tf32", "bf16"]),
)


def reordered(value: Any) -> Any:
    """The same JSON value with every object's fields the other way round."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    if isinstance(value, list):
        return [reordered(item) for item in value]
    return value


@given(specs)
def test_round_trip_through_json_is_exact_whatever_the_field_order(spec: Spec) -> None:
    text = spec.canonical_json()
    again = Spec.from_json(json.dumps(reordered(json.loads(text)), indent=1))
    assert again == spec
    assert again.canonical_json() == text
    assert again.spec_id == spec.spec_id


@given(specs, specs)
def test_specs_are_equal_exactly_when_their_hashes_are(spec: Spec, other: Spec) -> None:
    assert (spec == other) == (spec.spec_id == other.spec_id)


@given(specs, st.data())
def test_changing_any_field_changes_the_hash(spec: Spec, data: st.DataObject) -> None:
    other = data.draw(specs)
    part = data.draw(st.sampled_from(["data", "model", "recipe", "precision"]))
    changed = spec.model_copy(update={part: getattr(other, part)})
    assert (changed.spec_id != spec.spec_id) == (getattr(other, part) != getattr(spec, part))


@settings(max_examples=3, deadline=None)
@given(st.lists(specs, min_size=5, max_size=20))
def test_hashes_are_the_same_in_another_process(some: list[Spec]) -> None:
    program = (
        "import sys; from dia_repro.experiments.spec import Spec\n"
        "for line in sys.stdin: print(Spec.from_json(line).spec_id)"
    )
    lines = "\n".join(spec.canonical_json() for spec in some)
    result = subprocess.run(
        [sys.executable, "-c", program],
        input=lines,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7"},
    )
    assert result.stdout.split() == [spec.spec_id for spec in some]


def leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in leaves(inner, (*path, key))]
    return [path]


def at(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


@given(specs, st.data())
def test_an_ill_typed_field_is_refused_by_name(spec: Spec, data: st.DataObject) -> None:
    fields = json.loads(spec.canonical_json())
    path = data.draw(st.sampled_from(leaves(fields)))
    at(fields, path[:-1])[path[-1]] = {"not": "this"}
    with pytest.raises(InvalidSpecError, match=path[-1]):
        Spec.from_json(json.dumps(fields))


@given(specs, st.data())
def test_an_unknown_field_is_refused_by_name(spec: Spec, data: st.DataObject) -> None:
    fields = json.loads(spec.canonical_json())
    parents = {path[:-1] for path in leaves(fields)}
    at(fields, data.draw(st.sampled_from(sorted(parents))))["speed"] = 1
    with pytest.raises(InvalidSpecError, match="speed"):
        Spec.from_json(json.dumps(fields))


@given(specs, st.data())
def test_no_number_is_taken_for_another_type(spec: Spec, data: st.DataObject) -> None:
    fields = json.loads(spec.canonical_json())
    path = data.draw(st.sampled_from(leaves(fields)))
    before = at(fields, path)
    wrong = {bool: 1, int: 1.5, float: "0.1", str: 3, list: 3, type(None): 3}[type(before)]
    at(fields, path[:-1])[path[-1]] = wrong
    with pytest.raises(InvalidSpecError, match=path[-1]):
        Spec.from_json(json.dumps(fields))


def test_zero_has_one_sign() -> None:
    recipes = [
        RecipeSpec(
            epochs=1,
            batch_size=1,
            lr=rate,
            momentum=rate,
            weight_decay=rate,
            milestones=(),
            gamma=rate,
        )
        for rate in (0.0, -0.0)
    ]
    assert recipes[0].model_dump_json() == recipes[1].model_dump_json()


RESNET, IMAGENET = ResNetBackbone(depth=11), ImageNetBackbone(family="resnet34")


@pytest.mark.parametrize(
    ("backbone", "written", "usual"),
    [
        (RESNET, {"stages": (3, 1)}, {"stages": (1, 3)}),
        (RESNET, {"stages": (1, 1, 3)}, {"stages": (1, 3)}),
        (RESNET, {"stages": (2, 1, 3)}, {}),
        (IMAGENET, {"stages": (1, 2, 3, 4)}, {}),
        (IMAGENET, {"stages": (3, 2, 1)}, {"stages": (1, 2, 3)}),
        (RESNET, {"stages": (1,), "extraction": "bn+gap", "norm": False}, {"stages": (1,)}),
    ],
)
def test_one_network_is_one_spec(
    backbone: Any, written: dict[str, Any], usual: dict[str, Any]
) -> None:
    norm = written.pop("norm", True)
    as_written, other = (
        ModelSpec(backbone=backbone, attention=DIALSTMAttention(**options), norm=norm)
        for options in (written, usual)
    )
    assert as_written == other
    assert as_written.model_dump_json() == other.model_dump_json()
    assert ModelSpec.model_validate_json(as_written.model_dump_json()) == as_written


def test_attention_at_a_stage_that_is_not_there_is_refused() -> None:
    fourth = DIALSTMAttention(stages=(4,))
    with pytest.raises(ImpossibleNetworkError, match="stage 4 is to have attention, of 3 stages"):
        ModelSpec(backbone=RESNET, attention=NoAttention()).with_attention(fourth)
    large = ModelSpec(backbone=IMAGENET, attention=NoAttention())
    assert large.with_attention(fourth).attention == fourth


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"data": NaN}'])
def test_what_is_no_spec_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpecError):
        Spec.from_json(text)


def test_the_id_of_a_known_spec_never_changes() -> None:
    """Results are found by this hash: if it moves, every database loses its runs."""
    spec = Spec(
        data=DataSpec(dataset="digits", classes=10, image_size=8, augmentation="none"),
        model=ModelSpec(backbone=ResNetBackbone(depth=83), attention=DIALSTMAttention()),
        recipe=RecipeSpec(
            epochs=8,
            batch_size=64,
            lr=0.01,
            momentum=0.9,
            weight_decay=1e-4,
            milestones=(5, 7),
            gamma=0.1,
        ),
        precision="fp32",
    )
    assert spec.spec_id == "1-a9d405b1b3843ec2"
