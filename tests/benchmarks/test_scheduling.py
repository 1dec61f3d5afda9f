"""Many simulated runs through the real executors."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from benchmarks.executors.processes import cpu_seconds
from benchmarks.executors.scheduling import Simulation
from benchmarks.executors.simulated import Load
from tests.helpers import benchmarks, one_line

RUNS, EPOCHS = 12, 2
SIZE = ("--runs", RUNS, "--slots", 4, "--seconds", 0.3, "--epochs", EPOCHS)


def simulation(runs: int, slots: int) -> Simulation:
    return Simulation(runs, slots, Load(2.0, 4), lambda *_: nullcontext(lambda *_: None))


def test_the_ideal_is_that_of_the_longest_first() -> None:
    durations = simulation(9, 1).durations
    assert durations == sorted(durations, reverse=True)
    assert simulation(9, 1).ideal_seconds == pytest.approx(sum(durations))
    assert simulation(9, 99).ideal_seconds == durations[0]
    three = simulation(3, 2).durations
    assert simulation(3, 2).ideal_seconds == max(three[0], three[1] + three[2])


def test_durations_have_the_mean_that_was_asked_for() -> None:
    durations = simulation(4000, 1).durations
    assert sum(durations) / len(durations) == pytest.approx(2.0, rel=0.05)
    assert durations == simulation(4000, 7).durations, "drawn anew each time"
    assert durations[100] > 2 * 2.0, "one in forty is longer than twice the mean"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc here")
def test_the_time_of_children_counts_when_they_are_gone() -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    before, own = cpu_seconds(), sum(os.times()[:2])
    subprocess.run([sys.executable, "-c", burn], check=True)
    own = sum(os.times()[:2]) - own
    # Linux counts ticks of 10 ms, for this process and for its children.
    assert 0.4 <= cpu_seconds() - before - own < 2.0


def measured(folder: Path, executor: str, *more: object) -> dict[str, dict[str, Any]]:
    options = ("--executor", executor, *SIZE, *more)
    done = benchmarks("executors", *map(str, options), "--format", "json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return {record["name"].partition(": ")[2]: record for record in json.loads(done.stdout)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "executor", ["local", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.exhaustive])]
)
def test_simulated_runs_are_run_and_measured(executor: str, tmp_path: Path) -> None:
    found = measured(tmp_path, executor)
    value = {name: record["value"] for name, record in found.items()}
    assert value["failed"] == 0
    assert value["ideal total"] < value["total"] < 300
    assert value["1 - ideal / total"] == pytest.approx(
        100 * (1 - value["ideal total"] / value["total"])
    )
    # take, align, set parameters, epochs, end
    assert found["writes a second"]["how"].startswith(f"{RUNS * (4 + EPOCHS)} writes")
    assert value["wait of a write, median"] > 0
    assert value["size of the database"] > 0.05
    if sys.platform == "linux":
        assert 5 < value["processor time a run"] < 60_000
    assert all(math.isfinite(figure) for figure in value.values())
    assert {path.name for path in tmp_path.iterdir()} == {"simulation.json"}


@pytest.mark.exhaustive
@pytest.mark.ray
def test_more_workers_of_ray_than_memory_holds_are_refused_at_once(tmp_path: Path) -> None:
    done = benchmarks("executors", "--executor", "ray", "--slots", "10000", cwd=tmp_path)
    assert (done.returncode, one_line(done.stderr)) == (1, True), done.stderr
    assert re.search(r"10000 workers of Ray do not fit into \d+ GB: --slots \d+", done.stderr)


@pytest.mark.exhaustive
@pytest.mark.postgres
def test_simulated_runs_have_a_database_of_their_own_on_a_server(
    postgres: str, tmp_path: Path
) -> None:
    found = measured(tmp_path, "local", "--postgres", postgres)
    assert found["failed"]["value"] == 0
    nobody = "postgresql+psycopg://127.0.0.1:1/x"
    done = benchmarks("executors", "--postgres", nobody, cwd=tmp_path)
    assert (done.returncode, one_line(done.stderr)) == (1, True), done.stderr
    assert "no database can be made on postgresql" in done.stderr
