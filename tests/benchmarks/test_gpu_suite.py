"""The GPU's benchmark in parts, within its time; what is measured needs a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from benchmarks.measurements import BenchmarkError, Series
from benchmarks.step import GPUPart, suites
from benchmarks.step.candidates import Mode, Task
from benchmarks.step.measure import take_turns
from benchmarks.step.suites import GPU_SECONDS, Setting, gpu_suite
from tests.helpers import tiny_spec

SETTING = Setting(torch.device("cpu"), 1, 5, 0.1)


@pytest.fixture
def deadlines(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """Of each measurement, which fails at once, on a clock that stands still."""
    found: list[float | None] = []

    def fail(
        _groups: Sequence[Sequence[Task]], *_: object, deadline: float | None = None
    ) -> list[Series]:
        found.append(deadline)
        raise BenchmarkError("ours: no GPU")

    def measure(setting: Setting, *groups: Sequence[Task]) -> list[Series]:
        return fail(groups, deadline=setting.deadline)

    monkeypatch.setattr(Setting, "measure", measure)
    monkeypatch.setattr(suites, "copy_bandwidth", lambda _device: 1.0)
    monkeypatch.setattr("benchmarks.step.suites.time.monotonic", lambda: 1000.0)
    monkeypatch.setattr(suites, "count_operations", lambda: iter(()))
    return found


def test_a_failing_part_is_named_and_the_others_share_its_time(
    deadlines: list[float | None],
) -> None:
    failed = [
        measurement for measurement in gpu_suite(SETTING) if measurement.name.startswith("failed")
    ]
    assert [measurement.name for measurement in failed] == [f"failed: {part}" for part in GPUPart]
    assert failed[0].how == "ours: no GPU; --part dianet measures it alone"
    shares = [GPU_SECONDS / left for left in (5, 4, 3, 2, 1)]
    assert deadlines == [pytest.approx(1000 + share) for share in shares]
    assert GPU_SECONDS <= 180


def test_a_part_alone_has_all_the_time(deadlines: list[float | None]) -> None:
    list(gpu_suite(SETTING, [GPUPart.SEVERAL]))
    assert deadlines == [1000 + GPU_SECONDS]


def test_a_process_that_is_not_ready_in_time_is_named() -> None:
    task = Task(Mode.OURS, tiny_spec().canonical_json(), "cpu", 1, 128, 32)
    with pytest.raises(BenchmarkError, match=r"^ours: not ready in time$"):
        take_turns([[task]], 1, 0.1, deadline=0.0)
