"""Runs in real worker processes: shared out, killed, stopped, broken."""

from __future__ import annotations

import importlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Timer

import pytest
import torch
from filelock import FileLock

from dia_repro.execution import forkserver
from dia_repro.execution.executors.local import LocalSupervisor
from dia_repro.execution.leasing import acquire_lock
from dia_repro.execution.machine import Slots
from dia_repro.execution.maintenance import folder_of
from dia_repro.execution.messages import Ended, Job, Message, Notice, Outcome
from dia_repro.experiments.names import Keep
from dia_repro.experiments.spec import NoAttention
from dia_repro.results.database import open_database
from dia_repro.results.queries import RunDetail, all_runs, run_detail
from dia_repro.results.schema import State
from dia_repro.training import checkpoint
from dia_repro.training.numerics import prepare_process
from dia_repro.training.store import Store
from tests.execution.tiny_runs import DATABASE, make_jobs, report
from tests.helpers import Program, clean_environment, tiny_spec

EPOCHS = 4
ROOT = Path(__file__).parents[2]


def start(
    folder: Path,
    seeds: int = 1,
    workers: int = 1,
    epochs: int = EPOCHS,
    environment: dict[str, str] | None = None,
) -> Program:
    folder.mkdir(exist_ok=True)
    arguments = map(str, (seeds, workers, epochs))
    return Program("tests.execution.tiny_runs", *arguments, cwd=folder, **environment or {})


def details(folder: Path) -> list[RunDetail]:
    database = open_database(str(folder / DATABASE), create=False)
    return [run_detail(database, run.id) for run in all_runs(database)]


def final_weights(folder: Path, detail: RunDetail) -> dict[str, torch.Tensor]:
    loaded = checkpoint.load_newest(folder_of(Store(folder / "runs-checkpoints"), detail.summary))
    assert loaded is not None
    assert isinstance(loaded.content["model"], dict)
    return loaded.content["model"]


def figures(detail: RunDetail) -> list[dict[str, object]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in detail.epochs]


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def finish(folder: Path, seeds: int = 1, workers: int = 2) -> str:
    """Train to the end in this process's workers; returns the notices."""
    folder.mkdir(exist_ok=True)
    notices: list[str] = []

    def listen(_job: Job, message: Message) -> None:
        if isinstance(message, Notice):
            notices.append(message.text)

    database, jobs = make_jobs(folder, [tiny_spec(epochs=EPOCHS)], seeds)
    LocalSupervisor(database, Slots.on_cpu(workers), listen).run(jobs)
    return "\n".join(notices)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds trained from beginning to end."""
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(folder, seeds=3)
    return folder


def assert_same_results(folder: Path, undisturbed: Path) -> None:
    expected = {detail.summary.seed: detail for detail in details(undisturbed)}
    for detail in details(folder):
        other = expected[detail.summary.seed]
        assert detail.summary.state is State.FINISHED
        assert [row["epoch"] for row in detail.epochs] == list(range(1, EPOCHS + 1))
        assert figures(detail) == figures(other)
        weights, theirs = final_weights(folder, detail), final_weights(undisturbed, other)
        assert all(torch.equal(weights[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_results_do_not_depend_on_concurrent_runs(undisturbed: Path, tmp_path: Path) -> None:
    finish(tmp_path, seeds=2, workers=1)
    assert_same_results(tmp_path, undisturbed)


@pytest.mark.slow
def test_finished_run_has_provenance_and_one_checkpoint(undisturbed: Path) -> None:
    for detail in details(undisturbed):
        (attempt,) = detail.provenance
        assert attempt["command"] == "tiny"
        assert attempt["torch"] == torch.__version__
        assert attempt["data_sha256"] == (
            "b629d018c2b694757710989db9c709b1c5082bcca378dcc6ddb828ea8d0d0634"
        )
        assert isinstance(attempt["peak_memory_bytes"], int)
        assert attempt["peak_memory_bytes"] > 50e6
        assert attempt["wall_seconds"] >= detail.summary.seconds  # type: ignore[operator]
        run = detail.summary
        assert run.parameters is not None
        folder = folder_of(Store(undisturbed / "runs-checkpoints"), run)
        assert len(checkpoint.sorted_names(folder)) == 1


@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param(0, marks=pytest.mark.slow),
        *(pytest.param(n, marks=pytest.mark.exhaustive) for n in range(1, 20)),
    ],
)
def test_rerun_after_sigkill_gives_the_same_results(
    attempt: int, undisturbed: Path, tmp_path: Path
) -> None:
    """The whole process group dies somewhere in the first three epochs."""
    process = start(tmp_path)
    wait_until(lambda: details_started(tmp_path))
    time.sleep(random.Random(attempt).uniform(0, 0.8))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = details(tmp_path)[0].summary
    assert before.state is State.RUNNING
    finish(tmp_path)
    # The epoch under way is lost at most: what the database had is not trained again.
    assert details(tmp_path)[0].provenance[-1]["from_epoch"] in (before.epochs, before.epochs + 1)
    assert_same_results(tmp_path, undisturbed)


@pytest.mark.parametrize(
    ("number", "seconds"),
    [  # Within five seconds where no other test takes the cores
        pytest.param(signal.SIGINT, 5, marks=pytest.mark.exhaustive),
        pytest.param(signal.SIGTERM, 5, marks=pytest.mark.exhaustive),
        pytest.param(signal.SIGHUP, 30, marks=pytest.mark.slow),  # a terminal is closed
    ],
)
def test_signal_stops_within_a_batch_and_rerun_resumes(
    number: signal.Signals, seconds: int, undisturbed: Path, tmp_path: Path
) -> None:
    process = start(tmp_path, seeds=3, workers=2, epochs=EPOCHS)
    wait_until(lambda: details_running(tmp_path))
    sent = time.monotonic()
    os.killpg(process.pid, number)
    output, errors = process.communicate(timeout=30)
    assert time.monotonic() - sent < seconds
    assert "Traceback" not in output + errors
    states = {detail.summary.state for detail in details(tmp_path)}
    assert State.INTERRUPTED in states
    assert states <= {State.INTERRUPTED, State.FINISHED, State.PENDING}
    finish(tmp_path, seeds=3)
    assert_same_results(tmp_path, undisturbed)


def details_started(folder: Path) -> bool:
    return any(detail.summary.state is State.RUNNING for detail in details(folder))


def details_running(folder: Path) -> bool:
    return any(
        detail.summary.state is State.RUNNING and detail.summary.epochs
        for detail in details(folder)
    )


@pytest.mark.slow
def test_workers_stop_when_their_parent_dies(undisturbed: Path, tmp_path: Path) -> None:
    process = start(tmp_path, epochs=400)
    wait_until(lambda: details_running(tmp_path))
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: details(tmp_path)[0].summary.state is not State.RUNNING, seconds=15)
    assert details(tmp_path)[0].summary.state is State.INTERRUPTED


def count_threads(kernels_first: bool) -> None:
    if kernels_first:
        importlib.import_module("dia_repro.models.fast.kernels")
    prepare_process(1, torch.device("cpu"))
    from numba import get_num_threads

    sys.exit(10 * torch.get_num_threads() + get_num_threads())


@pytest.mark.parametrize("kernels_first", [True, False])
def test_a_worker_has_the_threads_it_was_given(kernels_first: bool) -> None:
    """Two workers of two threads each would wait for each other most of the time."""
    forkserver.start()
    process = forkserver.CONTEXT.Process(target=count_threads, args=(kernels_first,))
    process.start()
    process.join()
    assert process.exitcode == 11


def test_lock_released_soon_is_waited_for(tmp_path: Path) -> None:
    """As a killed process's, which the kernel is still tearing down."""
    held = FileLock(tmp_path / "lock", thread_local=False)
    held.acquire()
    assert acquire_lock(tmp_path) is None
    Timer(0.3, held.release).start()
    acquired = acquire_lock(tmp_path)
    assert acquired is not None
    assert acquired.is_locked


@pytest.mark.exhaustive
def test_two_processes_that_want_the_same_run(tmp_path: Path) -> None:
    epochs = 16  # so many that it trains for longer than the second waits for it
    first = start(tmp_path, epochs=epochs)
    wait_until(lambda: details_started(tmp_path))
    owner = details(tmp_path)[0].summary.owner
    database, jobs = make_jobs(tmp_path, [tiny_spec(epochs=epochs)], 1)
    assert LocalSupervisor(database, Slots.on_cpu(1), report).run(jobs) == {
        1: Ended(Outcome.BUSY, owner)
    }
    first.communicate(timeout=120)
    (detail,) = details(tmp_path)
    assert detail.summary.state is State.FINISHED
    assert [row["epoch"] for row in detail.epochs] == list(range(1, epochs + 1))
    assert len(detail.provenance) == 1
    assert LocalSupervisor(database, Slots.on_cpu(1), report).run(jobs) == {
        1: Ended(Outcome.DONE_BEFORE)
    }


@pytest.mark.exhaustive
def test_damaged_checkpoint_is_skipped_and_reported(undisturbed: Path, tmp_path: Path) -> None:
    process = start(tmp_path)
    wait_until(lambda: any(detail.summary.epochs >= 2 for detail in details(tmp_path)))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    run = details(tmp_path)[0].summary
    folder = folder_of(Store(tmp_path / "runs-checkpoints"), run)
    newest = checkpoint.sorted_names(folder)[0]
    folder.write(newest, folder.read(newest)[:-100])
    assert f"{newest} is damaged" in finish(tmp_path)
    assert_same_results(tmp_path, undisturbed)


@pytest.mark.exhaustive
def test_files_of_the_working_folder_are_not_imported(tmp_path: Path) -> None:
    """As an installed command has it: the folder is not on the path of the starting process."""
    (tmp_path / "random.py").write_text("raise RuntimeError('the wrong module')")
    program = (
        "import sys; sys.path.remove(''); sys.argv[1:] = ['1', '1', '1']\n"
        "from tests.execution.tiny_runs import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=clean_environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "1 finished" in result.stdout
    assert result.stderr == ""


def run_orders(folder: Path, **changes: object) -> dict[int, Ended]:
    """A tiny diverging run, a broken job and a good one, side by side."""
    diverging = tiny_spec(lr=1e6, norm=False, attention=NoAttention())
    database, jobs = make_jobs(folder, [tiny_spec(epochs=1), diverging], 2)
    broken = replace(jobs[0], **changes)  # type: ignore[arg-type]
    return LocalSupervisor(database, Slots.on_cpu(2), report).run([broken, *jobs[1:]])


def test_one_bad_run_does_not_stop_the_others(tmp_path: Path) -> None:
    ended = run_orders(tmp_path, spec_json="nonsense")
    assert ended[1].outcome is Outcome.FAILED
    assert "spec" in (ended[1].detail or "")
    assert ended[2].outcome is Outcome.FINISHED
    assert ended[3].outcome is Outcome.DIVERGED
    assert ended[4].outcome is Outcome.DIVERGED
    states = [detail.summary.state for detail in details(tmp_path)]
    assert states[1:] == [State.FINISHED, State.DIVERGED, State.DIVERGED]


def test_a_divergence_is_a_result_with_its_place(tmp_path: Path) -> None:
    run_orders(tmp_path)
    diverged = details(tmp_path)[2].summary
    assert diverged.state is State.DIVERGED
    assert diverged.reason is not None
    assert "of epoch 1" in diverged.reason


@pytest.mark.parametrize(
    "keep", [Keep.NONE, *(pytest.param(k, marks=pytest.mark.slow) for k in Keep if k != Keep.NONE)]
)
def test_the_checkpoints_that_were_asked_for_are_kept(keep: Keep, tmp_path: Path) -> None:
    database, (job,) = make_jobs(tmp_path, [tiny_spec(epochs=4)], 1)
    LocalSupervisor(database, Slots.on_cpu(1), report).run([replace(job, keep=keep)])
    (run,) = all_runs(database)
    known = [epoch["test_top1"] for epoch in run_detail(database, run.id).epochs]
    best = known.index(run.best_top1) + 1
    names = folder_of(job.checkpoints, run).names()
    kept = [int(name.split("-")[1]) for name in names if name.startswith("epoch-")]
    assert kept == {Keep.LAST: [4], Keep.BEST: [best], Keep.NONE: []}[keep]


def test_killed_worker_is_recorded_with_its_reason(tmp_path: Path) -> None:
    database, jobs = make_jobs(tmp_path, [tiny_spec(epochs=1), tiny_spec(epochs=300)], 1)
    killed: list[int] = []

    def kill_the_long_one(job: object, message: object) -> None:
        summary = details(tmp_path)[1].summary
        if summary.state is State.RUNNING and not killed and summary.owner:
            killed.append(int(summary.owner.split()[1]))
            os.kill(killed[0], signal.SIGKILL)

    ended = LocalSupervisor(database, Slots.on_cpu(2), kill_the_long_one).run(jobs)
    assert ended[1].outcome is Outcome.FINISHED
    assert ended[2].outcome is Outcome.FAILED
    summary = details(tmp_path)[1].summary
    assert summary.state is State.FAILED
    assert summary.reason is not None
    assert "SIGKILL" in summary.reason


def test_error_in_on_message_ends_the_supervisor(tmp_path: Path) -> None:
    """Taken for the worker's own end, it left both waiting for each other."""
    database, jobs = make_jobs(tmp_path, [tiny_spec(epochs=300)], 1)

    def refuse(job: object, message: object) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        LocalSupervisor(database, Slots.on_cpu(1), refuse).run(jobs)
    wait_until(lambda: details(tmp_path)[0].summary.state is State.INTERRUPTED)
