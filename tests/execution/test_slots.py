"""Slots: the device that each run goes to, and the runs that wait."""

from __future__ import annotations

from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from dia_repro.artifacts.paper import TABLE5
from dia_repro.errors import AbsentError, UsageError
from dia_repro.execution import planning
from dia_repro.execution.estimates import with_estimates
from dia_repro.execution.executors.local import LocalSupervisor
from dia_repro.execution.machine import Machine, Slots
from dia_repro.execution.messages import Ended, Job, Message, Notice, Outcome
from dia_repro.execution.options import Selection
from dia_repro.execution.requests import request_to_train
from dia_repro.experiments.names import DataLocation, Precision
from dia_repro.results import leases, writer
from dia_repro.results.database import open_database
from dia_repro.results.schema import State
from dia_repro.training.store import Store
from tests.execution.tiny_runs import make_jobs
from tests.helpers import tiny_spec
from tests.results.rows import PROVENANCE, epoch

GPUS = ("cuda:0", "cuda:1")
ROOM = {"cuda:0": 100, "cuda:1": 100}


def test_emptiest_device_is_next() -> None:
    slots = Slots(GPUS, 2)
    assert [slots.take(0) for _ in range(5)] == [*GPUS, *GPUS, None]
    slots.give_back("cuda:1", 0)
    assert (slots.free, slots.take(0), slots.take(0)) == (1, "cuda:1", None)


def test_no_more_at_once_than_asked_for() -> None:
    slots = Slots(GPUS, 2, at_once=3)
    assert slots.total == 3
    assert [slots.take(0) for _ in range(4)] == ["cuda:0", "cuda:1", "cuda:0", None]


def test_memory_is_not_given_out_twice() -> None:
    slots = Slots(GPUS, 4, ROOM)
    assert [slots.take(60), slots.take(60), slots.take(60)] == [*GPUS, None]
    assert slots.take(40) == "cuda:0"
    slots.give_back("cuda:0", 60)
    assert slots.take(60) == "cuda:0"


def test_run_estimated_too_large_runs_alone() -> None:
    slots = Slots(["cuda:0"], 2, ROOM)
    assert (slots.take(500), slots.take(1)) == ("cuda:0", None)
    slots.give_back("cuda:0", 500)
    assert (slots.take(1), slots.take(500)) == ("cuda:0", None)


def test_slots_of_a_machine() -> None:
    two = Machine(GPUS, 16, tuple(ROOM.items()))
    assert two.slots(9).total == 2
    assert two.slots(1).total == 1
    assert two.slots(9, per_gpu=3).total == 6
    assert two.slots(9, jobs=5, per_gpu=3).total == 5
    with pytest.raises(UsageError, match="5 runs at a time need --per-gpu 3: there are 2 GPUs"):
        two.slots(9, jobs=5)
    laptop = Machine(("cpu",), 4)
    assert (laptop.slots(9).total, laptop.slots(9, 2).total, laptop.slots(3).total) == (4, 2, 3)
    with pytest.raises(AbsentError, match="no GPU here to share"):
        laptop.slots(9, per_gpu=2)


class Watched(Slots):
    """Notes what is on a device each time a run is placed there."""

    def __init__(self) -> None:
        super().__init__(GPUS, 2, ROOM)
        self.on: dict[str, list[int]] = {name: [] for name in GPUS}
        self.seen: list[tuple[int, ...]] = []

    def take(self, need: int) -> str | None:
        name = super().take(need)
        if name:
            self.on[name].append(need)
            self.seen.append(tuple(self.on[name]))
        return name

    def give_back(self, name: str, need: int) -> None:
        super().give_back(name, need)
        self.on[name].remove(need)


def say_where(job: Job, connection: Connection) -> None:
    connection.send(Notice(job.device))
    connection.send(Ended(Outcome.FINISHED))


def test_each_job_goes_to_a_free_device(tmp_path: Path) -> None:
    """The processes are real; what they are told to train on is not used."""
    database, jobs = make_jobs(tmp_path, [tiny_spec()], 6)
    needs = [60, 60, 60, 30, 10, 200]
    jobs = [replace(job, memory=need) for job, need in zip(jobs, needs, strict=True)]
    slots, went = Watched(), {}

    def listen(job: Job, message: Message) -> None:
        if isinstance(message, Notice):
            went[job.run_id] = message.text

    ended = LocalSupervisor(database, slots, listen, train=say_where).run(jobs)
    assert {ending.outcome for ending in ended.values()} == {Outcome.FINISHED}
    assert (len(went), set(went.values())) == (6, set(GPUS))
    assert slots.seen[:3] == [(60,), (60,), (60, 30)], "the third of 60 waits, 30 passes"
    assert all(sum(needs) <= 100 or len(needs) == 1 for needs in slots.seen)
    assert slots.on == {name: [] for name in GPUS}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_plan_for_a_clusters_gpus_without_a_gpu(tmp_path: Path) -> None:
    gpu = Machine(("cuda:0",), 1)
    request = request_to_train(Selection(), gpu, None)
    assert request.precision is Precision.TF32
    database = open_database(str(tmp_path / "runs.db"), create=True)
    planned = planning.plan_runs(database, [TABLE5], request, (0,))
    with pytest.raises(AbsentError, match="estimated on a machine that has one"):
        with_estimates(planned, database, gpu, 1)
    where = (DataLocation(tmp_path), "test", Store(tmp_path / "checkpoints"))
    jobs = planning.make_jobs(planned, database, gpu, 1, *where)
    # ResNet407 keeps most: 3 numbers of 4 bytes for each output and image of a batch of 128.
    assert max(job.memory for job in jobs) > 10e9
    assert min(job.memory for job in jobs) > 1e9

    # What a run was seen to take on a GPU counts more; on a processor it says nothing of one.
    first, second, *others = jobs
    for job, cuda in ((first, "13.0"), (second, None)):
        lease = leases.take(database, job.run_id, "me", "here", {**PROVENANCE, "cuda": cuda})
        state = State.INTERRUPTED
        writer.record_epoch(database, lease, epoch(1))
        writer.end(database, lease, state, wall_seconds=1.0, peak_memory_bytes=5_000_000_000)
    again = planning.make_jobs(planned, database, gpu, 1, *where)
    seen = planning.CUDA_BYTES + 5_000_000_000
    assert [job.memory for job in again] == [seen, *(job.memory for job in (second, *others))]

    # Nor are times refused any more: two seconds an epoch were seen of the first.
    planned = planning.plan_runs(database, [TABLE5], request, (0,))
    on_one, on_four = (with_estimates(planned, database, gpu, 1, gpus) for gpus in (1, 4))
    seconds = [run.seconds or 0 for run in on_one]
    assert seconds[0] == pytest.approx(2 * 179, rel=0.05)
    ratios = [(run.seconds or 0) / whole for run, whole in zip(on_four, seconds, strict=True)]
    assert ratios[:2] == [1, 1], "what was measured is not divided"
    assert all(0.25 < ratio < 0.3 for ratio in ratios[2:])
    database.close()
