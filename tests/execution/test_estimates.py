"""Estimates of `plan`, compared with the times that runs take."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from multiprocessing import forkserver as standard
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from dia_repro.artifacts import choose
from dia_repro.execution import estimates, forkserver
from dia_repro.execution.estimates import (
    EVALUATION,
    START_SECONDS,
    CalibrationError,
    at_full_speed,
    seconds_per_image,
    wall_seconds,
    with_estimates,
)
from dia_repro.execution.executors.local import LocalSupervisor
from dia_repro.execution.machine import Machine
from dia_repro.execution.maintenance import checkpoint_store
from dia_repro.execution.messages import Outcome
from dia_repro.execution.planning import PlannedRun, longest_first, make_jobs, plan_runs
from dia_repro.experiments.names import DataLocation, Precision, Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.experiments.spec import ResNetBackbone
from dia_repro.processors import cores
from dia_repro.results.database import Database, open_database
from tests.execution.tiny_runs import report
from tests.helpers import tiny_spec

CPU = torch.device("cpu")


def demo(
    database: Database, epochs: int | None = None, only: tuple[str, ...] = ()
) -> list[PlannedRun]:
    precision = Precision.FP32
    request = Request(Protocol.DEMO, precision, None, precision_asked=False, epochs=epochs)
    return plan_runs(database, choose(["table5"]), request, (0,), only)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return open_database(str(tmp_path / "runs.db"), create=True)


def test_estimates_lie_between_the_measured_networks(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deepest is made twice as slow for its work as the cheapest."""
    planned = demo(database)
    asked: list[tuple[int, int]] = []

    def measured(spec: object, _device: object, threads: int, together: int) -> float:
        (run,) = (run for run in planned if run.spec == spec)
        asked.append((threads, together))
        slow = 2 if run.spec.model.backbone == ResNetBackbone(depth=407) else 1
        return slow * (run.counts.macs + 80 * run.counts.outputs) * 1e-10

    monkeypatch.setattr(estimates, "seconds_per_image", measured)
    machine = Machine(("cpu",), cores())
    found = with_estimates(planned, database, machine, cores())
    assert asked == [(1, cores())] * 2, "concurrently, a core each"

    def rate(run: PlannedRun) -> float:
        assert run.seconds is not None
        saved = run.counts.parameters * 8 / 100e6
        epoch = (run.seconds - 1) / run.spec.recipe.epochs - saved
        work = (run.counts.macs + 80 * run.counts.outputs) * run.training_images
        return epoch / work / 1e-10 / (1 + EVALUATION)

    rates = [rate(run) for run in sorted(found, key=lambda run: run.counts.macs)]
    assert rates == sorted(rates)
    assert [rates[0], rates[-1]] == pytest.approx([1, 2])
    assert rates[1] < rates[-2]
    asked.clear()
    monkeypatch.setattr(estimates, "LONGEST_STEP_SECONDS", 0.0)
    with_estimates(planned, database, machine, 1)
    assert asked == [(cores(), 1)], "the dearest would take too long"


def test_wall_time_is_of_the_last_slot(database: Database) -> None:
    planned = [replace(run, seconds=10.0) for run in demo(database)]
    assert len(planned) == 8
    assert wall_seconds(planned, 3) == 30 + START_SECONDS
    assert wall_seconds(planned, 100) == 10 + START_SECONDS
    assert wall_seconds([], 3) == 0


@pytest.mark.slow
def test_steps_are_measured_concurrently() -> None:
    alone = seconds_per_image(tiny_spec(), CPU, 1, 1)
    assert 1e-6 < alone < 1
    together = seconds_per_image(tiny_spec(), CPU, 1, 2)
    assert 1e-6 < together < 1


def test_steps_that_cannot_be_made_are_one_error(capfd: pytest.CaptureFixture[str]) -> None:
    bad = tiny_spec().model_copy(update={"precision": "bf16"})
    bad = bad.model_copy(update={"data": bad.data.model_copy(update={"image_size": 10**6})})
    with pytest.raises(CalibrationError, match="a few steps of training failed"):
        seconds_per_image(bad, CPU, 1, 1)
    assert "Traceback" not in capfd.readouterr().err


def test_a_measurement_that_nobody_waits_for_ends_without_an_error() -> None:
    """Interrupted, who asked may be gone before it knows of the process."""
    process, ours = forkserver.start_process(
        estimates._measure, tiny_spec().canonical_json(), "cpu", 1
    )
    ours.close()
    process.join()
    assert process.exitcode == 0


def test_stopped_server_does_not_hold_up_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process is ended, and the server tells of the end."""
    answer = estimates._answer

    def stop_then_answer(connection: Connection) -> float:
        server = standard._forkserver._forkserver_pid  # type: ignore[attr-defined]
        os.kill(server, signal.SIGSTOP)
        return answer(connection)

    def rescue(_number: int, _frame: object) -> None:
        forkserver.resume()
        raise TimeoutError("calibration hangs")

    bad = tiny_spec().model_copy(update={"precision": "bf16"})
    bad = bad.model_copy(update={"data": bad.data.model_copy(update={"image_size": 10**6})})
    monkeypatch.setattr(estimates, "_answer", stop_then_answer)
    before = signal.signal(signal.SIGALRM, rescue)
    signal.alarm(30)
    try:
        with pytest.raises(CalibrationError):
            seconds_per_image(bad, CPU, 1, 1)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("jobs", [2, 4, 60])
def test_more_runs_than_cores_end_no_sooner(jobs: int) -> None:
    machine = Machine(("cpu",), 2)
    assert at_full_speed(machine, jobs, together=jobs) == 2
    assert at_full_speed(machine, 1, together=1) == 1
    assert at_full_speed(machine, 8 * jobs, together=jobs) == 16, "on eight such machines"
    assert at_full_speed(Machine(("cuda:0",), 2), jobs, together=jobs) == jobs


@pytest.mark.exhaustive
def test_plan_is_within_30_per_cent_of_actual_time(tmp_path: Path, database: Database) -> None:
    """On a machine that does other things meanwhile, one of three attempts has to be."""
    machine = Machine(("cpu",), cores())
    ratios: list[float] = []
    for _ in range(3):
        open_runs = longest_first(demo(database, 4, ("ResNet83", "ResNet164")))
        fresh = open_database(str(tmp_path / f"runs{len(ratios)}.db"), create=True)
        planned = with_estimates(open_runs, fresh, machine, cores())
        expected = wall_seconds(planned, cores()) - START_SECONDS
        where = (DataLocation(tmp_path), "test", checkpoint_store(fresh))
        jobs = make_jobs(open_runs, fresh, machine, machine.threads(cores()), *where)
        begun = time.monotonic()
        slots = machine.slots(len(jobs))
        ended = LocalSupervisor(fresh, slots, report).run(jobs)
        actual = time.monotonic() - begun
        fresh.close()
        assert {ending.outcome for ending in ended.values()} == {Outcome.FINISHED}
        ratios.append(expected / actual)
        if 0.7 <= ratios[-1] <= 1.3:
            return
    pytest.fail(f"estimated ÷ actual: {ratios}")
