"""What surrounds a captured step: streams, memory pools and fallbacks, with CUDA played here.

CUDA itself is played by `FakeCUDA`, which keeps the rules of torch's own sources: a pool that a
failed capture left recording is refused, and torch's context leaves its stream the current one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from dia_repro.data.sources.digits import load_digits
from dia_repro.experiments.spec import DIALSTMAttention
from dia_repro.models import from_spec
from dia_repro.models.network import StagedNetwork
from dia_repro.training.captured import CapturedStep, fast_step
from dia_repro.training.step import TrainingStep
from tests.helpers import tiny_spec

SPEC = tiny_spec(attention=DIALSTMAttention())
CPU = torch.device("cpu")


class Stream:
    """A stream, by the device it was made on."""

    def __init__(self, device: object) -> None:
        self.device = device

    def wait_stream(self, other: Stream) -> None:
        """Nothing runs concurrently here."""


class Graph:
    """A captured graph, which counts its replays."""

    def __init__(self) -> None:
        self.replays = 0

    def replay(self) -> None:
        """Count only: what a replay computes is CUDA's part."""
        self.replays += 1


class FakeCUDA:
    """The functions of `torch.cuda` that capturing calls.

    Attributes:
        fails: the kinds of step whose capture raises: compiled, captured.
        captures: pool, stream and error mode of each capture.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: tuple[str, ...] = ()) -> None:
        self.fails = fails
        self.default = self.current = Stream("default")
        self.recording: set[int] = set()
        self.captures: list[tuple[int, Stream, str]] = []
        self.pools = 0
        self.compiled = self.capturing = False
        patched = {
            "Stream": Stream,
            "CUDAGraph": Graph,
            "current_stream": lambda _device=None: self.current,
            "stream": self.stream,
            "graph": self.graph,
            "graph_pool_handle": self.graph_pool_handle,
            "get_rng_state": lambda _device: torch.zeros(1),
            "set_rng_state": lambda _state, _device: None,
        }
        for name, value in patched.items():
            monkeypatch.setattr(torch.cuda, name, value)

        def use_compiled(_network: StagedNetwork, compiled: bool = True) -> None:
            self.compiled = compiled

        monkeypatch.setattr(StagedNetwork, "use_compiled", use_compiled)

    def graph_pool_handle(self) -> int:
        """A new pool."""
        self.pools += 1
        return self.pools

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        """Make a stream the current one, and the former one again."""
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(
        self, _graph: Graph, pool: int, stream: Stream, capture_error_mode: str = "global"
    ) -> Iterator[None]:
        """As torch's: after an error its stream stays the current one and its pool records."""
        if pool in self.recording:
            raise RuntimeError("already recording to mempool_id")
        self.captures.append((pool, stream, capture_error_mode))
        self.recording.add(pool)
        before, self.current = self.current, stream
        self.capturing = True
        try:
            yield
        except Exception as error:
            raise RuntimeError("capture was invalidated") from error
        finally:
            self.capturing = False
        self.recording.remove(pool)
        self.current = before

    def check(self) -> None:
        """Raise where the capture is to fail; called in the middle of a step."""
        kind = "compiled" if self.compiled else "captured"
        if self.capturing and kind in self.fails:
            raise ValueError("an operation that cannot be captured")


def step_under(cuda: FakeCUDA) -> CapturedStep:
    torch.manual_seed(0)
    model = from_spec(SPEC.model, 10)
    step = CapturedStep(model, SPEC.recipe, "fp32", CPU)
    model.stages[1].register_forward_hook(lambda *_: cuda.check())
    step.set_rate(0.01)
    return step


def batch(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    images = load_digits(8).train
    pixels = images.pixels[:size].float().contiguous(memory_format=torch.channels_last)
    return pixels / 255, images.labels[:size]


@pytest.mark.parametrize(
    ("fails", "how"),
    [
        ((), r"compiled and captured"),
        (("compiled",), r"captured, not compiled \(RuntimeError: capture was invalidated\)"),
        (("compiled", "captured"), r"eager, not compiled \(.*\), not captured \(.*\)"),
    ],
)
def test_each_fallback_has_a_pool_and_the_stream_from_before(
    monkeypatch: pytest.MonkeyPatch, fails: tuple[str, ...], how: str
) -> None:
    cuda = FakeCUDA(monkeypatch, fails)
    step = step_under(cuda)
    step.train(*batch(SPEC.recipe.batch_size))
    assert cuda.current is cuda.default
    assert len(cuda.captures) == min(len(fails) + 1, 2)
    pools = [pool for pool, _, _ in cuda.captures]
    assert len(set(pools)) == len(pools)
    assert re.fullmatch(how, step.how), step.how


def test_a_step_that_cannot_be_captured_is_the_eager_one(monkeypatch: pytest.MonkeyPatch) -> None:
    step = step_under(FakeCUDA(monkeypatch, ("compiled", "captured")))
    torch.manual_seed(0)
    eager = TrainingStep(from_spec(SPEC.model, 10), SPEC.recipe, "fp32", CPU)
    eager.set_rate(0.01)
    for trained in (step, eager):
        trained.model.train()
        for _ in range(3):
            trained.train(*batch(SPEC.recipe.batch_size))
    assert step.tally.read() == eager.tally.read()
    theirs = eager.model.state_dict()
    assert all(torch.equal(t, theirs[name]) for name, t in step.model.state_dict().items())


def test_a_capture_lets_other_threads_allocate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader's thread pins memory while an evaluation is captured."""
    cuda = FakeCUDA(monkeypatch)
    step = step_under(cuda)
    step.train(*batch(SPEC.recipe.batch_size))
    step.model.eval()
    step.evaluate(*batch(40))
    assert [mode for _, _, mode in cuda.captures] == ["thread_local"] * 2


def test_graphs_share_a_pool_and_a_stream_on_the_steps_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = FakeCUDA(monkeypatch)
    step = step_under(cuda)
    for size in (SPEC.recipe.batch_size, 33):
        step.train(*batch(size))
    assert len({pool for pool, _, _ in cuda.captures}) == 1
    assert {stream.device for _, stream, _ in cuda.captures} == {CPU}
    assert len({id(stream) for _, stream, _ in cuda.captures}) == 1


def test_each_size_of_batch_is_captured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCUDA(monkeypatch)
    step = step_under(cuda)
    for _ in range(3):
        step.train(*batch(SPEC.recipe.batch_size))
    assert len(cuda.captures) == 1
    captured: Any = next(iter(step._graphs.values()))
    assert captured.graph.replays == 3


def test_a_failing_evaluation_is_named_in_the_mode(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = FakeCUDA(monkeypatch, ("captured",))
    step = step_under(cuda)
    step.train(*batch(SPEC.recipe.batch_size))
    step.model.eval()
    step.evaluate(*batch(40))
    assert step.how.startswith("compiled and captured; evaluation: eager, not captured (")


def test_a_failed_capture_leaves_none_of_the_graphs_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They read the random numbers' old state, which is not seeded any more."""
    cuda = FakeCUDA(monkeypatch)
    step = step_under(cuda)
    step.train(*batch(SPEC.recipe.batch_size))
    cuda.fails = ("captured",)
    step.train(*batch(33))
    assert step.how.startswith("compiled and captured; other batches: eager, not captured")
    captures = len(cuda.captures)
    step.train(*batch(SPEC.recipe.batch_size))
    step.train(*batch(33))
    assert len(cuda.captures) == captures + 1


@pytest.mark.parametrize(("steps", "compiled"), [(4_999, False), (5_000, True)])
def test_short_runs_are_not_compiled(
    monkeypatch: pytest.MonkeyPatch, steps: int, compiled: bool
) -> None:
    cuda = FakeCUDA(monkeypatch)
    monkeypatch.setattr("dia_repro.training.captured.TrainingStep.__init__", prepared)
    step = fast_step(from_spec(SPEC.model, 10), SPEC.recipe, "fp32", torch.device("cuda"), steps)
    assert isinstance(step, CapturedStep)
    assert step._compiled is compiled
    assert not cuda.captures


def prepared(step: TrainingStep, *arguments: Any) -> None:
    """A step whose tensors are on no device."""
    step.model, _, step.precision, step.device = arguments
