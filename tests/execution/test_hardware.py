"""Estimates for GPUs that are not here."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import dia_repro
from dia_repro.artifacts import ARTIFACTS
from dia_repro.errors import UsageError
from dia_repro.execution.hardware import GPUS, find_gpu
from dia_repro.execution.planning import PlannedRun
from dia_repro.experiments.names import Precision, Protocol
from dia_repro.experiments.protocols import Request

TABLE3 = ARTIFACTS["table3"].specs(Request(Protocol.PAPER, Precision.BF16))
STEPS = 391 * 180 * 1.06


@pytest.mark.parametrize(("column", "measured"), [("original", 11.0e-3), ("DIANet", 14.1e-3)])
def test_an_estimate_is_half_to_twice_what_was_measured(column: str, measured: float) -> None:
    """On an H200: see docs/performance.md."""
    run = PlannedRun((), 50_000, TABLE3["ResNet164 CIFAR100", column], 0, None)
    assert 0.5 < GPUS["h200"].seconds(run) / STEPS / measured < 2


def test_faster_gpus_and_narrower_numbers_take_less_time() -> None:
    spec = TABLE3["WRN52-4 CIFAR100", "original"]
    exact = spec.model_copy(update={"precision": "fp32"})
    seconds = [GPUS[name].seconds(PlannedRun((), 50_000, spec, 0, None)) for name in GPUS]
    assert all(math.isfinite(value) and value > 0 for value in seconds)
    assert GPUS["a100"].seconds(PlannedRun((), 50_000, exact, 0, None)) > 2 * seconds[6]
    assert [*GPUS][6] == "a100"
    assert seconds[-1] == min(seconds)
    for gpu in GPUS.values():
        assert gpu.fp32 <= gpu.tf32 <= gpu.bf16


def test_a_plan_for_a_gpu_measures_nothing_and_is_the_same_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dia_repro.execution.estimates.seconds_per_image", None)
    options = {"database": tmp_path / "runs.db", "on": "A100", "seeds": 2, "only": ["ResNet83"]}
    plan, again = (dia_repro.plan("table5", **options) for _ in range(2))
    assert plan == again
    assert plan.gpu_hours == pytest.approx(plan.frame()["seconds_left"].sum() / 3600)
    assert {run.spec.precision for run in plan.runs} == {"tf32"}
    assert "GPU-hours, 2.00 at" in plan.cost(2 / plan.gpu_hours)
    assert "on a100 (1 at a time" in plan.cost()
    eight = dia_repro.plan("table5", jobs=8, **options)
    assert eight.devices == ("8 × a100",)
    assert eight.wall_seconds < plan.wall_seconds


def test_an_unknown_gpu_is_refused() -> None:
    with pytest.raises(UsageError, match="no speed of 'x100' is known: choose one of t4, v100"):
        find_gpu("x100")
