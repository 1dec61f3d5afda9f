"""Signals while a run loads data or waits for images, and to workers that ignore them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from PIL import Image

from dia_repro.execution import worker
from dia_repro.execution.endings import OwnTime, Supervised, cause_of_death
from dia_repro.execution.executors import local
from dia_repro.execution.executors.local import LocalSupervisor
from dia_repro.execution.machine import Slots
from dia_repro.execution.messages import (
    Begun,
    Ended,
    Job,
    Message,
    Notice,
    Outcome,
    Progress,
)
from dia_repro.experiments.names import DataLocation
from dia_repro.experiments.spec import NoAttention
from dia_repro.results.database import Database, open_database
from dia_repro.results.leases import take
from dia_repro.results.queries import run_detail
from dia_repro.results.schema import State
from dia_repro.training.provenance import Environment, collect
from tests.execution.tiny_runs import make_jobs
from tests.helpers import choose, tiny_spec, write_folder

STEP = Progress(0, 1, 0, 1, None)
LINGERING_SECONDS = 40  # longer than the tests below may take
Train = Callable[[Job, Connection], None]


def streamed_run(tmp_path: Path, images: int = 12) -> tuple[Database, Job]:
    """A run on images that are too large to be held."""
    photos = write_folder(tmp_path / "photos", {"train": images, "test": 2}, side=80)
    data = choose(photos, 72, tmp_path).spec
    tiny = tiny_spec(attention=NoAttention(), epochs=3)
    recipe = tiny.recipe.model_copy(update={"batch_size": 4})
    spec = tiny.model_copy(update={"data": data, "recipe": recipe})
    database, (job,) = make_jobs(tmp_path, [spec], 1)
    return database, replace(job, data=DataLocation(tmp_path, photos))


def state(database: Database, job: Job) -> tuple[State, str | None, str | None]:
    run = run_detail(database, job.run_id).summary
    return run.state, run.reason, run.owner


def children_of(process: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_run_waiting_for_images_stops_at_first_signal(tmp_path: Path) -> None:
    database, job = streamed_run(tmp_path, images=60)
    stuck: list[int] = []
    asked: list[float] = []

    def on_message(_job: Job, message: Message) -> None:
        if isinstance(message, Progress) and not stuck:
            (active,) = executor._active
            # The process that decodes images: the last one that it has started.
            stuck.append(children_of(active.process.pid or 0)[-1])
            os.kill(stuck[0], signal.SIGSTOP)  # as on a drive that does not answer
            threading.Timer(1.0, interrupt).start()

    def interrupt() -> None:
        asked.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    executor = LocalSupervisor(database, Slots.on_cpu(1), on_message)
    ended = executor.run([job])[job.run_id]
    assert stuck
    assert time.monotonic() - asked[0] < 10
    assert ended == Ended(Outcome.INTERRUPTED)
    assert state(database, job) == (State.INTERRUPTED, None, None)


def test_replaced_images_fail_the_run(tmp_path: Path) -> None:
    database, job = streamed_run(tmp_path)

    def on_message(_job: Job, message: Message) -> None:
        if isinstance(message, Progress) and (message.epochs, message.steps) == (1, 0):
            for path in (tmp_path / "photos" / "train").rglob("*.png"):
                Image.new("RGB", (80, 80)).save(path)

    ended = LocalSupervisor(database, Slots.on_cpu(1), on_message).run([job])[job.run_id]
    assert ended.outcome is Outcome.FAILED
    assert (ended.detail or "").endswith(".png has changed since the run began: start again")
    assert state(database, job) == (State.FAILED, ended.detail, None)
    assert len(run_detail(database, job.run_id).epochs) < 3
    again = LocalSupervisor(database, Slots.on_cpu(1), lambda *_: None).run([job])[job.run_id]
    assert "have changed since the run was asked for" in (again.detail or "")


def test_run_inspecting_images_stops(tmp_path: Path) -> None:
    database, job = streamed_run(tmp_path)
    for note in (tmp_path / "inspections").iterdir():
        note.unlink()
    ended = worker.attempt(job, lambda _: None, lambda: True)
    assert ended == Ended(Outcome.INTERRUPTED)
    assert state(database, job) == (State.PENDING, None, None)


def deaf(job: Job, connection: Connection) -> None:
    """A worker that has its run and notices no signal that can be ignored."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _take(job, connection)


def early(job: Job, connection: Connection) -> None:
    """A worker that has its run and no handlers yet."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    _take(job, connection)


def parent(job: Job, connection: Connection) -> None:
    """A deaf worker with a process of its own, which has the connection open when it is killed."""
    if not os.fork():
        time.sleep(LINGERING_SECONDS)
        os._exit(0)
    deaf(job, connection)


def lingering(job: Job, connection: Connection) -> None:
    """A worker that has ended but for a thread, such as a plugin may have started."""
    connection.send(STEP)
    connection.send(Ended(Outcome.INTERRUPTED))
    threading.Thread(target=time.sleep, args=(LINGERING_SECONDS,)).start()
    connection.close()


def killed(job: Job, connection: Connection) -> None:
    """A worker that the kernel kills for want of memory once it is asked to stop."""
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    _take(job, connection)


def _take(job: Job, connection: Connection) -> None:
    database = open_database(job.database, create=False)
    environment = Environment.here(1, "cpu", deterministic=True, processes=1)
    known = collect(environment, torch.device("cpu"), "tiny", "0" * 64, 10, 0)
    lease = take(database, job.run_id, f"process {os.getpid()} here", "somewhere", known)
    database.close()
    connection.send(Begun(lease))
    connection.send(STEP)
    time.sleep(60)


@pytest.mark.parametrize(
    ("train", "signals", "patience", "expected", "says"),
    [
        (deaf, 2, 60, Outcome.INTERRUPTED, "stopped at once by a second signal"),
        (deaf, 1, 1, Outcome.INTERRUPTED, "did not stop within 1 seconds and was killed"),
        (parent, 1, 1, Outcome.INTERRUPTED, "did not stop within 1 seconds and was killed"),
        (early, 1, 60, Outcome.INTERRUPTED, "stopped before it could save anything"),
        (killed, 1, 60, Outcome.FAILED, "killed by SIGKILL (out of memory?)"),
    ],
)
def test_worker_killed_by_our_signals_is_interrupted(
    tmp_path: Path, train: Train, signals: int, patience: float, expected: Outcome, says: str
) -> None:
    database, (job,) = make_jobs(tmp_path, [tiny_spec()], 1)
    begun: list[float] = []

    def on_message(_job: Job, message: Message) -> None:
        if isinstance(message, Progress):
            begun.append(time.monotonic())
            for number in range(signals):
                wait = 0.2 + 0.8 * number
                threading.Timer(wait, os.kill, (os.getpid(), signal.SIGINT)).start()

    executor = LocalSupervisor(database, Slots.on_cpu(1), on_message, train=train)
    executor.patience = patience
    ended = executor.run([job])[job.run_id]
    assert time.monotonic() - begun[0] < LINGERING_SECONDS
    assert ended.outcome is expected
    assert says in (ended.detail or "")
    found, reason, owner = state(database, job)
    assert (found.value, owner) == (expected.value, None)
    assert (reason is None) == (expected is Outcome.INTERRUPTED)


def test_worker_lingering_after_its_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "EXIT_SECONDS", 0.5)
    database, (job,) = make_jobs(tmp_path, [tiny_spec()], 1)
    begun: list[float] = []

    def on_message(_job: Job, _message: Message) -> None:
        begun.append(time.monotonic())

    ended = LocalSupervisor(database, Slots.on_cpu(1), on_message, train=lingering).run([job])
    assert time.monotonic() - begun[0] < LINGERING_SECONDS
    assert ended == {job.run_id: Ended(Outcome.INTERRUPTED)}


def test_slow_steps_give_more_time_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, (job,) = make_jobs(tmp_path, [tiny_spec()], 1)
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    run = Supervised(job=job, patience=60, clock=OwnTime())

    def is_late_after(seconds: int) -> bool:
        for _ in range(seconds):  # turns of the supervisor
            now[0] += 1
            run.clock()
        return run.is_late

    for pause, message in ((900, Notice("loaded")), (5, STEP), (300, STEP), (5, STEP)):
        is_late_after(pause)
        run.hear(message)
    assert not is_late_after(1000)
    run.ask_to_stop()
    assert not is_late_after(359)
    run.ask_to_stop()  # again
    assert is_late_after(2)
    assert "within 360 seconds" in str(run.killed_late.detail)


def test_time_of_stopped_processes_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-Z and `fg`: a worker that was saving goes on saving."""
    _, (job,) = make_jobs(tmp_path, [tiny_spec()], 1)
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    run = Supervised(job=job, patience=60, clock=OwnTime())
    run.hear(STEP)
    now[0] += 3600
    run.hear(STEP)
    assert run.allowed < 70
    run.ask_to_stop()
    now[0] += 3600
    assert not run.is_late
    for _ in range(70):
        now[0] += 1
        run.clock()
    assert run.is_late


class StrayError(Exception):
    """Something that goes wrong in the process that started the workers."""


@pytest.mark.parametrize("how", ["signal", "call", "error"])
def test_stopped_worker_is_continued_and_ends(tmp_path: Path, how: str) -> None:
    database, (job,) = make_jobs(tmp_path, [tiny_spec(epochs=30)], 1)
    found: list[int] = []

    def on_message(_job: Job, message: Message) -> None:
        if not isinstance(message, Progress) or found:
            return
        found.append(executor._active[0].process.pid or 0)
        os.kill(found[0], signal.SIGSTOP)  # as Ctrl-Z does
        rescue.start()
        if how == "signal":
            os.kill(os.getpid(), signal.SIGINT)
        elif how == "call":
            executor.stop_now()
        else:
            raise StrayError

    executor = LocalSupervisor(database, Slots.on_cpu(1), on_message)
    rescue = threading.Timer(20, lambda: os.kill(found[0], signal.SIGCONT))
    with pytest.raises(StrayError) if how == "error" else nullcontext():
        executor.run([job])
    if how == "error":
        executor._active[0].process.join()
    assert rescue.is_alive(), "it was this test that continued the worker"
    rescue.cancel()
    assert state(database, job) == (State.INTERRUPTED, None, None)


@pytest.mark.parametrize(
    ("code", "words"),
    [(-9, "SIGKILL (out of memory?)"), (-15, "SIGTERM"), (-40, "signal 40"), (3, "exit code 3")],
)
def test_a_death_is_told_whatever_the_signal(code: int, words: str) -> None:
    assert cause_of_death(code).endswith(words)
