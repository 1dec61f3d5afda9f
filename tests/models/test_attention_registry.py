"""Attention kinds of one's own: registered with their options, and refused in one line."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Any, Literal, cast

import pytest
import torch
from torch import Tensor, nn

import dia_repro
from dia_repro import plugins
from dia_repro.errors import ABSENT, DiaReproError, UsageError
from dia_repro.experiments.attention import (
    KINDS,
    AttentionOptionError,
    KindNotRegisteredError,
    NoAttention,
    parse_attention,
)
from dia_repro.experiments.spec import InvalidSpecError, Spec
from dia_repro.interrupts import Interrupted
from dia_repro.models import build, count, from_spec, register_attention
from dia_repro.models.attention.registry import UNITS, RegistrationError, register
from dia_repro.models.network import StagedNetwork
from dia_repro.models.stage import AttentionOutputError, Stage
from dia_repro.training.provenance import KEY, Environment
from dia_repro.training.step import TrainingStep
from tests.helpers import clean_environment, tiny_spec
from tests.own_kind import UNIT, write_eca


@pytest.fixture(autouse=True)
def _registry_as_before() -> Iterator[None]:
    before = dict(KINDS), dict(UNITS), set(plugins._LOADED)
    yield
    for table, entries in zip((KINDS, UNITS, plugins._LOADED), before, strict=True):
        table.clear()  # type: ignore[attr-defined]
        table.update(entries)  # type: ignore[attr-defined]


@pytest.fixture
def eca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = write_eca(tmp_path / "mine")
    monkeypatch.setenv(plugins.VARIABLE, str(folder))
    return folder


def spec_with(text: str) -> Spec:
    return tiny_spec(attention=parse_attention(text))


@pytest.mark.usefixtures("eca")
def test_options_enter_the_spec_and_its_hash() -> None:
    spec, larger = spec_with("eca"), spec_with("eca:kernel=5")
    assert json.loads(spec.canonical_json())["model"]["attention"] == {"kind": "eca", "kernel": 3}
    assert Spec.from_json(larger.canonical_json()) == larger != spec
    assert len({known.spec_id for known in (spec, larger, tiny_spec(attention=NoAttention()))}) == 3


@pytest.mark.usefixtures("eca")
def test_names_have_the_options_that_are_unusual() -> None:
    assert spec_with("eca").model.label == "ECA ResNet11"
    assert spec_with("eca:kernel=5").model.label == "ECA ResNet11 kernel=5"
    assert parse_attention("eca").heading == "ECA"
    assert parse_attention("eca:kernel=5").heading == "ECA kernel=5"
    assert parse_attention("se:reduction=8").heading == "SENet r=8"
    assert parse_attention("se:bias=false").heading == "SENet r=16 bias=False"


@pytest.mark.usefixtures("eca")
def test_each_block_has_a_unit_that_is_counted() -> None:
    spec, bare = spec_with("eca:kernel=5"), tiny_spec(attention=NoAttention())
    network = from_spec(spec.model, 10)
    assert sum(name.endswith("conv.weight") for name in network.state_dict()) == 3
    counted, without = count(spec.model, 10, 8), count(bare.model, 10, 8)
    assert counted.parameters - without.parameters == 3 * 5
    assert counted.macs - without.macs == 5 * (64 + 128 + 256)


def test_another_process_reads_a_spec_of_the_kind(eca: Path) -> None:
    spec = spec_with("eca:kernel=5")
    program = (
        "import pickle, sys; spec = pickle.load(sys.stdin.buffer); print(spec.spec_id);"
        "from dia_repro.experiments.spec import Spec;"
        "print(Spec.from_json(spec.canonical_json()).model.attention.kernel)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=pickle.dumps(spec),
        capture_output=True,
        check=True,
        env={**clean_environment(), plugins.VARIABLE: str(eca / "eca.py")},
    )
    assert done.stdout.decode().split() == [spec.spec_id, "5"]


def test_the_test_next_to_an_example_plugin_passes(eca: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", eca / "test_eca.py"],
        cwd=eca,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(plugins.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stdout


def test_unknown_kinds_are_never_trained_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    text = tiny_spec(attention=NoAttention()).canonical_json().replace('"none"}', '"eca"}', 1)
    assert '"kind":"eca"' in text
    monkeypatch.delenv(plugins.VARIABLE, raising=False)
    with pytest.raises(KindNotRegisteredError, match="'eca' is not registered here") as caught:
        Spec.from_json(text)
    assert caught.value.exit_code == ABSENT


@pytest.mark.usefixtures("eca")
def test_a_known_kind_that_lost_its_unit_is_an_error() -> None:
    spec = spec_with("eca")
    del UNITS["eca"]
    with pytest.raises(KindNotRegisteredError, match="no registered unit"):
        from_spec(spec.model, 10)


@pytest.mark.usefixtures("eca")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("eca:kernal=5", r"option kernal: Extra .*its options: kernel"),
        ("eca:kernel", "write option=value"),
        ("eca:kernel=large", "option kernel: "),
        ("eca:kernel=2.5", "option kernel: "),
        ("none:kernel=5", "its options: none"),
        ("dia-lstm:stages=[1,9]", "option 1: "),
        pytest.param("dia-lstm:stages=" + "[" * 5000, "option stages: ", id="5000 brackets"),
        pytest.param("dia-lstm:stages=" + "[" * 201 + "]" * 201, "option stages: ", id="201 lists"),
    ],
)
def test_wrong_options_are_refused_in_a_line(text: str, words: str) -> None:
    with pytest.raises(AttentionOptionError, match=words) as caught:
        parse_attention(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.usefixtures("eca")
def test_a_spec_with_a_wrong_option_names_it() -> None:
    text = spec_with("eca").canonical_json().replace('"kernel":3', '"kernel":"x"')
    with pytest.raises(InvalidSpecError, match="kernel"):
        Spec.from_json(text)


def test_options_of_the_papers_kinds_are_typed_as_text() -> None:
    attention = parse_attention("dia-lstm:reduction=8,stages=[1,3],activation=tanh")
    assert attention.label == "DIANet r=8 tanh stages 1,3"


class Size(StrEnum):
    LARGE = "large"


def unit(signature: str) -> type[nn.Module]:
    program = f"class Own(nn.Module):\n    def __init__(self, channels{signature}): ..."
    names: dict[str, Any] = {"nn": nn, "Literal": Literal, "Size": Size}
    exec(program, names)
    names["Own"].__module__ = "own"
    own: type[nn.Module] = names["Own"]
    return own


@pytest.mark.parametrize(
    ("annotation", "default", "equal"),
    [
        ("float", "1.0", ["1", "1.0"]),
        ("float", "1", ["1", "1.0"]),
        ("float", "-0.0", ["-0.0", "0", "0.0"]),
        ("tuple[float, ...]", "(-0.0, 1)", ["[0, 1.0]", "[-0.0, 1]"]),
        ("float | None", "None", ["null"]),
        ("int | Literal['auto']", "'auto'", ["auto", '"auto"']),
        ("tuple[tuple[int, str], ...] | None", "((1, 'a'),)", ['[[1, "a"]]']),
        ("Size", "Size.LARGE", ["large"]),
    ],
)
def test_equal_options_are_one_experiment(annotation: str, default: str, equal: list[str]) -> None:
    register("own")(unit(f", size: {annotation} = {default}"))
    ids = {spec_with(f"own:size={value}").spec_id for value in equal}
    assert ids == {spec_with("own").spec_id}


def test_results_are_found_when_their_kind_has_an_option_more() -> None:
    register("own")(unit(", size: int = 3"))
    before = spec_with("own")
    del KINDS["own"], UNITS["own"]
    added = {"groups": 1}
    register("own", added=added)(unit(", size: int = 3, groups: int = 2"))
    same, other = spec_with("own:groups=1"), spec_with("own")
    assert same.spec_id == before.spec_id != other.spec_id
    read = Spec.from_json(before.canonical_json())
    assert read == same
    assert read.model.attention.model_dump() == {"kind": "own", "size": 3, "groups": 1}
    assert Spec.from_json(other.canonical_json()) == other


@pytest.mark.parametrize("value", [(3, 5), [3, 5]])
def test_an_added_tuple_is_left_out_of_specs(value: object) -> None:
    register("own", added={"sizes": value})(unit(", sizes: tuple[int, ...] = (1,)"))
    assert "sizes" not in spec_with("own:sizes=[3,5]").canonical_json()


@pytest.mark.parametrize("added", [{"size": "x"}, {"groups": 1}, {"size": float("nan")}])
def test_added_options_have_values_that_the_kind_takes(added: dict[str, object]) -> None:
    with pytest.raises(RegistrationError, match=f"option '{next(iter(added))}': "):
        register("own", added=added)(unit(", size: float = 3"))


@pytest.mark.parametrize(
    ("kind", "signature", "words"),
    [
        ("se", "", "'se' is registered already"),
        ("none", "", "'none' is registered already"),
        ("Own Kind", "", "lower-case letters"),
        ("own", ", depth: int = 3", "'depth' has another meaning"),
        ("own", ", model_size: int = 3", "'model_size' has another meaning"),
        ("own", ", size=3", "'size' needs a type and a default"),
        ("own", ", size: int", "'size' needs a type and a default"),
        ("own", ", size: int = 'x'", "default of option 'size': Input should be"),
        ("own", ", size: object = print", "option 'size' has the type object, whose equal"),
        ("own", ", size: frozenset[int] = frozenset()", r"has the type frozenset\[int\]"),
        ("own", ", size: list[int] = []", r"has the type list\[int\]"),
        ("own", ", size: int | float = 3", r"has the type int \| float"),
        ("own", ", size: int | bool = 3", r"has the type int \| bool"),
        ("own", ", size: Literal[1, True] = 1", r"has the type .*Literal\[1, True\]"),
        ("own", ", size: tuple[int | float, ...] = ()", "has the type tuple"),
        ("own", ", size: tuple[int, ...] | tuple[float, ...] = ()", "has the type tuple"),
        ("own", ", size: tuple = ()", "has the type tuple"),
        ("own", ", size: dict[str, int] = {}", "has the type dict"),
        ("own", ", size: float = float('nan')", "default of option 'size': .*nan is not a finite"),
        ("own", ", size: tuple[float] = (float('inf'),)", "inf is not a finite"),
    ],
)
def test_what_cannot_be_registered_is_refused(kind: str, signature: str, words: str) -> None:
    before = dict(KINDS), dict(UNITS)
    with pytest.raises(RegistrationError, match=words):
        register(kind)(unit(signature))
    assert before == (KINDS, UNITS)


@pytest.mark.parametrize("title", ["DIANet", "SENet", "original", "DIA-SE"])
def test_a_name_that_another_kind_has_is_refused(title: str) -> None:
    before = dict(KINDS), dict(UNITS)
    with pytest.raises(RegistrationError, match=f"the title '{title}' is that of"):
        register("own", title=title)(unit(""))
    assert before == (KINDS, UNITS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text + "1 / 0\n", "ZeroDivisionError"),
        (lambda text: text.replace('"eca", title', '"se", title'), "'se' is registered already"),
        (lambda text: "import no_such_library\n" + text, "no_such_library"),
        (lambda text: text + "raise SystemExit(0)\n", "SystemExit: 0"),
        (lambda text: text + "raise SystemExit\n", "SystemExit$"),
    ],
)
def test_a_plugin_that_fails_is_one_line(
    change: Callable[[str], str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_eca(tmp_path / "mine", change(UNIT))
    monkeypatch.setenv(plugins.VARIABLE, str(folder))
    with pytest.raises(UsageError, match=words) as caught:
        parse_attention("eca")
    assert "eca.py" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("signal", [KeyboardInterrupt, Interrupted])
def test_a_signal_while_a_plugin_is_loaded_is_no_fault_of_it(
    signal: type[BaseException], eca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_file: Path) -> None:
        raise signal

    with monkeypatch.context() as patch:
        patch.setattr(plugins, "_load_file", interrupt)
        with pytest.raises(signal):
            parse_attention("eca")
    assert parse_attention("eca").kind == "eca"


def test_what_a_plugin_prints_goes_to_standard_error(
    eca: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (eca / "eca.py").write_text(UNIT + "print('hello')\n")
    parse_attention("eca")
    assert capsys.readouterr() == ("", "hello\n")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
@pytest.mark.parametrize("inside", [True, False])
def test_what_is_no_file_is_refused(
    make: Callable[[Path], None], inside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "eca.py"
    make(path)
    monkeypatch.setenv(plugins.VARIABLE, str(tmp_path if inside else path))
    words = r"eca\.py: it is no file" if inside or path.is_fifo() else "'eca' is not registered"
    with pytest.raises(DiaReproError, match=words):
        parse_attention("eca")


def test_two_files_of_one_name_are_two_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = (UNIT, UNIT.replace('"eca", title="ECA"', '"eca2"'))
    folders = [write_eca(tmp_path / f"{number}", text) for number, text in enumerate(texts)]
    monkeypatch.setenv(plugins.VARIABLE, os.pathsep.join(map(str, folders)))
    assert [parse_attention(kind).heading for kind in ("eca", "eca2")] == ["ECA", "ECA2"]
    modules = [sys.modules[UNITS[kind].make.__module__] for kind in ("eca", "eca2")]
    assert [module.__file__ for module in modules] == [str(folder / "eca.py") for folder in folders]


def test_a_plugin_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(plugins.VARIABLE, "/no/such/file.py")
    with pytest.raises(plugins.AbsentPluginError, match=r"/no/such/file\.py"):
        parse_attention("eca")


def test_a_changed_plugin_is_noticed_on_resuming(eca: Path) -> None:
    def here(text: str) -> Environment:
        attention = parse_attention(text)
        return Environment.here(1, "cpu", deterministic=True, processes=1, attention=attention)

    begun, builtin = here("eca").to_store()[KEY], here("se")
    assert here("eca").differences(begun) == []
    assert builtin.package == dia_repro.__version__
    del KINDS["eca"], UNITS["eca"]
    plugins._LOADED.clear()
    (eca / "eca.py").write_text(UNIT.replace("sigmoid", "tanh"))
    (difference,) = here("eca").differences(begun)
    assert difference.count("with eca.py sha256:") == 2


@pytest.mark.parametrize("name", ["extraction", "stages", "titles", "text"])
def test_options_that_mean_something_else_are_refused(name: str) -> None:
    """Where units are is no matter of theirs: the option would never reach them."""

    def make(_self: nn.Module, channels: int, **_options: str) -> None: ...

    unit = type("Other", (nn.Module,), {"__init__": make})
    option = Parameter(name, Parameter.KEYWORD_ONLY, default="avg", annotation=str)
    make.__annotations__[name] = str
    first = list(signature(make).parameters.values())[:2]
    unit.__signature__ = Signature([first[1], option])  # type: ignore[attr-defined]
    make.__signature__ = Signature([*first, option])  # type: ignore[attr-defined]
    with pytest.raises(RegistrationError, match=f"option '{name}' has another meaning"):
        register("other")(unit)


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda pooled: (pooled[:, :1], None), r"gave a pair that begins with \(4, 1\)"),
        (lambda pooled: (pooled[:1], None), r"gave a pair that begins with \(1, 64\)"),
        (lambda pooled: pooled, r"gave \(4, 64\)"),
        (lambda pooled: (pooled, None, None), "gave a pair that begins with"),
        (lambda pooled: (None, None), "gave a pair that begins with NoneType"),
    ],
)
def test_attention_of_another_shape_is_refused(
    answer: Callable[[Tensor], Any], words: str, by_hand: bool
) -> None:
    """A hand-written pass would read beyond the end of a tensor that is too small."""

    class Gate(nn.Module):
        def forward(self, pooled: Tensor, _state: Any = None) -> Any:
            return answer(pooled)

    network = build("resnet11", classes=10)
    for stage in cast("list[Stage]", network.stages):
        stage.unit = Gate()
    cast("StagedNetwork", network).use_fast(by_hand)
    with pytest.raises(AttentionOutputError, match=f"Gate.forward {words}"):
        network(torch.randn(4, 3, 8, 8))


def test_attention_of_another_type_is_converted() -> None:
    """A hand-written pass would read its bytes as if they were float32."""

    class Gate(nn.Module):
        def __init__(self, dtype: torch.dtype) -> None:
            super().__init__()
            self.dtype = dtype

        def forward(self, pooled: Tensor, _state: Any = None) -> Any:
            return pooled.sigmoid().to(self.dtype), None

    def gradients(dtype: torch.dtype) -> list[Tensor]:
        torch.manual_seed(0)
        network = build("resnet11", classes=10)
        for stage in cast("list[Stage]", network.stages):
            stage.unit = Gate(dtype)
        cast("StagedNetwork", network).use_fast()
        network(torch.randn(4, 3, 8, 8)).square().sum().backward()
        return [p.grad for p in network.parameters() if p.grad is not None]

    pairs = zip(gradients(torch.float32), gradients(torch.float64), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)


class Running(nn.Module):
    """A sum over the blocks, updated in place, that is the attention and the state."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, channels)

    def forward(self, pooled: Tensor, state: Any = None) -> Any:
        state = torch.zeros_like(pooled) if state is None else state
        state += self.linear(pooled)
        return state, state


class Detaching(Running):
    """One that takes its input out of the graph, in place."""

    def forward(self, pooled: Tensor, state: Any = None) -> Any:
        pooled.detach_()
        return self.linear(pooled).sigmoid(), state


@pytest.mark.parametrize("unit", [Running, Detaching])
def test_a_unit_that_changes_tensors_in_place_has_the_plain_gradients(unit: type[Running]) -> None:
    """A hand-written pass needs the pooled features and the attention again in its backward."""

    def gradients(by_hand: bool) -> list[Tensor]:
        torch.manual_seed(0)
        network = build("resnet29", classes=10)
        for stage, channels in zip(
            cast("list[Stage]", network.stages), (64, 128, 256), strict=True
        ):
            stage.unit = unit(channels)
        cast("StagedNetwork", network).use_fast(by_hand)
        network(torch.randn(4, 3, 8, 8)).square().sum().backward()
        return [p.grad for p in network.parameters() if p.grad is not None]

    plain, fast = gradients(False), gradients(True)
    assert len(plain) == len(fast)
    for expected, found in zip(plain, fast, strict=True):
        torch.testing.assert_close(
            found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())
        )


class Lazy(Running):
    """One with a buffer that checkpoints would lack, and parameters that it does not use."""

    mean: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.unused = nn.Linear(channels, 1)
        self.register_buffer("mean", torch.zeros(channels), persistent=False)

    def forward(self, pooled: Tensor, state: Any = None) -> Any:
        return self.linear(pooled - self.mean).sigmoid(), state


def test_all_buffers_of_an_own_unit_are_in_checkpoints() -> None:
    register_attention("lazy", title="Lazy", shared=True)(Lazy)
    state = build("resnet11", classes=10, attention="lazy").state_dict()
    assert len([name for name in state if name.endswith(".unit.mean")]) == 3


def test_parameters_that_an_own_unit_does_not_use_stay() -> None:
    register_attention("lazy", title="Lazy", shared=True)(Lazy)
    network = build("resnet11", classes=10, attention="lazy")
    step = TrainingStep(network, tiny_spec().recipe, "fp32", torch.device("cpu"))
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    step.set_rate(0.1)
    step.train(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3]))
    stay = {name for name, p in network.named_parameters() if torch.equal(p, before[name])}
    assert stay == {name for name in before if ".unused." in name}
