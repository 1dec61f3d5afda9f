"""Runs that several processes share: started, stopped, resumed, killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dia_repro.errors import UsageError
from dia_repro.execution.attempt import NOT_EQUAL
from dia_repro.execution.executors.local import LocalSupervisor
from dia_repro.execution.machine import Machine, NoGPUError, Slots
from dia_repro.execution.messages import Ended, Job, Message, Notice, Outcome, Progress
from dia_repro.experiments.names import DataLocation
from dia_repro.experiments.spec import DIALSTMAttention, Spec
from dia_repro.results.queries import RunDetail, run_detail
from dia_repro.results.schema import State
from tests.execution.test_local import wait_until
from tests.execution.tiny_runs import make_jobs
from tests.fuzz.commands import run_command
from tests.helpers import choose, one_line, tiny_spec, write_folder

SPEC = tiny_spec(attention=DIALSTMAttention(reduction=4, stages=(1, 2, 3)), epochs=3)
OnMessage = Callable[[LocalSupervisor, Message], None]


class Shared:
    """One run of a database, trained by as many processes as asked for."""

    def __init__(self, folder: Path, spec: Spec = SPEC) -> None:
        folder.mkdir(exist_ok=True)
        self.database, (self.job,) = make_jobs(folder, [spec], 1)
        self.notices: list[str] = []

    def train(self, processes: int, then: OnMessage | None = None) -> Ended:
        def on_message(_job: Job, message: Message) -> None:
            if isinstance(message, Notice):
                self.notices.append(message.text)
            if then is not None:
                then(executor, message)

        executor = LocalSupervisor(self.database, Slots.on_cpu(1), on_message)
        job = replace(self.job, processes=processes)
        return executor.run([job])[job.run_id]

    @property
    def detail(self) -> RunDetail:
        return run_detail(self.database, self.job.run_id)

    def losses(self) -> list[tuple[object, object]]:
        return [(row["train_loss"], row["test_loss"]) for row in self.detail.epochs]


def children_of(process: int) -> list[int]:
    """All that descend from it, itself left out; those that share a run are the last."""
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *children_of(int(child))]
    return found


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    run = Shared(tmp_path_factory.mktemp("alone"))
    assert run.train(1).outcome is Outcome.FINISHED
    return run


def stop_after_an_epoch(executor: LocalSupervisor, message: Message) -> None:
    if isinstance(message, Progress) and message.epochs >= 1:
        os.kill(os.getpid(), signal.SIGTERM)


def stop_in_an_epoch(executor: LocalSupervisor, message: Message) -> None:
    if isinstance(message, Progress) and message.steps:
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
def test_stopped_run_resumes_with_other_number_of_processes(tmp_path: Path, alone: Shared) -> None:
    """Stopped within an epoch, it says that other processes' random numbers are drawn anew."""
    run = Shared(tmp_path)
    assert run.train(2, stop_in_an_epoch).outcome is Outcome.INTERRUPTED
    assert NOT_EQUAL not in " ".join(run.notices)
    assert run.train(2, stop_after_an_epoch).outcome is Outcome.INTERRUPTED
    assert 1 <= len(run.losses()) < 3
    assert any("step" in notice for notice in run.notices)
    assert sum(NOT_EQUAL in notice for notice in run.notices) == 1
    assert run.train(3).outcome is Outcome.FINISHED
    assert any("goes on after epoch" in notice for notice in run.notices)
    # Rounding grows from step to step; a part that is missing would cost far more.
    torch.testing.assert_close(run.losses(), alone.losses(), rtol=2e-3, atol=0)
    assert [attempt["step"] for attempt in run.detail.provenance] == [
        "eager, in 2 processes",
        "eager, in 2 processes",
        "eager, in 3 processes",
    ]


@pytest.mark.slow
def test_one_process_resumes_within_an_epoch(tmp_path: Path) -> None:
    single = Shared(tmp_path)
    assert single.train(1, stop_in_an_epoch).outcome is Outcome.INTERRUPTED
    assert single.train(1).outcome is Outcome.FINISHED
    assert NOT_EQUAL not in " ".join(single.notices)


@pytest.mark.exhaustive
def test_divergence_ends_the_run_for_all_processes(tmp_path: Path) -> None:
    run = Shared(tmp_path, tiny_spec(lr=1e12, epochs=2))
    ended = run.train(2)
    assert ended.outcome is Outcome.DIVERGED
    assert run.detail.summary.state is State.DIVERGED
    assert "epoch 1" in (ended.detail or "")


@pytest.mark.slow
def test_killed_process_is_named_and_run_resumes(tmp_path: Path) -> None:
    run = Shared(tmp_path)
    killed: list[int] = []

    def kill_the_second(executor: LocalSupervisor, message: Message) -> None:
        if isinstance(message, Progress) and message.epochs >= 1 and not killed:
            (worker,) = (active.process.pid for active in executor._active)
            assert worker is not None
            killed.append(children_of(server_of(worker))[-1])
            os.kill(killed[0], signal.SIGKILL)

    ended = run.train(2, kill_the_second)
    assert ended == Ended(Outcome.FAILED, ended.detail)
    assert "process 2 of 2: the training process was killed by SIGKILL" in (ended.detail or "")
    assert run.detail.summary.state is State.FAILED
    assert run.train(2).outcome is Outcome.FINISHED


@pytest.mark.exhaustive
def test_each_process_has_its_own_that_decode_images(tmp_path: Path) -> None:
    """Images too large to be held; two processes of the run, each with one that decodes."""
    photos = write_folder(tmp_path / "photos", {"train": 6, "test": 3}, side=80)
    data = choose(photos, 72, tmp_path).spec
    whole = tiny_spec(epochs=1).model_copy(update={"data": data})
    recipe = whole.recipe.model_copy(update={"batch_size": 4})
    run = Shared(tmp_path / "runs", whole.model_copy(update={"recipe": recipe}))
    run.job = replace(run.job, data=DataLocation(tmp_path, photos), threads=2)
    ended = run.train(2)
    assert ended.outcome is Outcome.FINISHED, ended.detail
    assert len(run.losses()) == 1


@pytest.mark.slow
def test_no_process_outlives_the_first(tmp_path: Path) -> None:
    run = Shared(tmp_path)
    left: list[int] = []

    def kill_the_first(executor: LocalSupervisor, message: Message) -> None:
        if isinstance(message, Progress) and message.epochs >= 1 and not left:
            (worker,) = (active.process.pid for active in executor._active)
            assert worker is not None
            left.extend(children_of(worker))
            os.kill(worker, signal.SIGKILL)

    assert run.train(2, kill_the_first).outcome is Outcome.FAILED
    assert left
    wait_until(lambda: not any(map(is_running, left)))


def worker_of(executor: LocalSupervisor) -> int:
    (worker,) = (active.process.pid for active in executor._active)
    assert worker is not None
    return worker


def server_of(worker: int) -> int:
    """The process that a worker's followers are forked from."""
    (server,) = (
        child
        for child in map(int, Path(f"/proc/{worker}/task/{worker}/children").read_text().split())
        if b"forkserver" in Path(f"/proc/{child}/cmdline").read_bytes()
    )
    return server


@pytest.fixture
def limit() -> Iterator[None]:
    """Fail a test that would wait for ever."""

    def fail(_number: int, _frame: object) -> None:
        raise TimeoutError("the run hangs")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(90)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
@pytest.mark.parametrize(
    "which", ["server", pytest.param("follower", marks=pytest.mark.exhaustive)]
)
def test_run_with_a_stopped_process_saves_and_ends(which: str, tmp_path: Path, limit: None) -> None:
    """Stopped as by SIGSTOP, either would be waited for."""
    run = Shared(tmp_path)
    left: list[int] = []

    def stop_one(executor: LocalSupervisor, message: Message) -> None:
        if isinstance(message, Progress) and message.epochs >= 1 and not left:
            worker = worker_of(executor)
            left.extend([worker, *children_of(worker)])
            server = server_of(worker)
            os.kill(server if which == "server" else children_of(server)[-1], signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        assert run.train(2, stop_one).outcome is Outcome.INTERRUPTED
        assert run.losses()
        wait_until(lambda: not any(map(is_running, left)))
    finally:
        for process in filter(is_running, left):
            os.kill(process, signal.SIGKILL)


@pytest.mark.exhaustive
def test_run_whose_server_is_stopped_finishes(tmp_path: Path, limit: None) -> None:
    run = Shared(tmp_path)
    left: list[int] = []

    def stop_the_server(executor: LocalSupervisor, message: Message) -> None:
        if isinstance(message, Progress) and message.epochs >= 1 and not left:
            worker = worker_of(executor)
            left.extend([worker, *children_of(worker)])
            os.kill(server_of(worker), signal.SIGSTOP)

    try:
        assert run.train(2, stop_the_server).outcome is Outcome.FINISHED
    finally:
        for process in filter(is_running, left):
            os.kill(process, signal.SIGKILL)


@pytest.mark.parametrize(
    ("gpus", "asked", "error", "says"),
    [
        (0, {"gpus_per_run": 2}, NoGPUError, "there is no GPU here"),
        (3, {"gpus_per_run": 4}, NoGPUError, "4 GPUs for each run: there are 3 GPUs here"),
        (4, {"gpus_per_run": 2, "jobs": 3}, UsageError, "3 runs at a time on 2 GPUs each"),
    ],
)
def test_gpus_that_are_not_there_are_refused(
    gpus: int, asked: dict[str, int], error: type[Exception], says: str
) -> None:
    devices = tuple(f"cuda:{number}" for number in range(gpus)) or ("cpu",)
    with pytest.raises(error, match=says):
        Machine(devices, cores=8).slots(5, **asked)


def test_runs_have_neighbouring_gpus_to_themselves() -> None:
    slots = Machine(tuple(f"cuda:{n}" for n in range(5)), cores=8).slots(9, gpus_per_run=2)
    assert slots.total == 2
    assert {slots.take(0), slots.take(0)} == {"cuda:0", "cuda:2"}
    assert slots.take(0) is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--gpus-per-run", "2", "--device", "cpu"], "there is no GPU here"),
        (["--gpus-per-run", "2", "--per-gpu", "2"], "either --per-gpu or --gpus-per-run"),
        (["--slurm", "partition=x"], "--slurm does not go with --executor local"),
    ],
)
def test_impossible_sharing_is_refused_in_a_sentence(
    tmp_path: Path, arguments: list[str], says: str
) -> None:
    result = run_command("run", "table5", "--protocol", "demo", *arguments, cwd=tmp_path)
    assert result.code in (2, 3)
    assert one_line(result.stderr)
    assert says in result.stderr
