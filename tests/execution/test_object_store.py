"""Runs whose checkpoints are in an object store, by a real S3 server."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from dia_repro.errors import ABSENT
from dia_repro.execution import leasing
from dia_repro.execution.attempt import Attempt
from dia_repro.execution.leasing import acquire_lock, lock_id, lock_location
from dia_repro.execution.maintenance import BusyRunError, dead_runs, folder_of, remove_run
from dia_repro.execution.messages import Ended, Job, Message, Notice, Outcome
from dia_repro.results.queries import RunDetail, all_runs
from dia_repro.results.schema import State
from dia_repro.training.checkpoint import load_newest, sorted_names
from dia_repro.training.environment import SharedFolderError
from dia_repro.training.store import Store
from dia_repro.training.trainer import Trainer
from tests.execution.test_local import details, figures, start, wait_until
from tests.execution.tiny_runs import make_jobs
from tests.helpers import clean_environment, tiny_spec, write_folder

EPOCHS = 4


def never() -> bool:
    return False


def train(
    folder: Path,
    checkpoints: str | None = None,
    should_stop: Callable[[], bool] = never,
    epochs: int = EPOCHS,
) -> tuple[Ended, list[str]]:
    """One attempt in this process; how it ended and its notices."""
    folder.mkdir(exist_ok=True)
    said: list[Message] = []
    database, (job,) = make_jobs(folder, [tiny_spec(epochs=epochs)], 1, checkpoints)
    ended = Attempt(job, said.append, should_stop).run()
    database.close()
    return ended, [message.text for message in said if isinstance(message, Notice)]


def weights(folder: Store) -> dict[str, torch.Tensor]:
    loaded = load_newest(folder)
    assert loaded is not None
    found: dict[str, torch.Tensor] = loaded.content["model"]
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained from beginning to end, with its checkpoints on a disk."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert train(folder)[0].outcome is Outcome.FINISHED
    return folder


@pytest.fixture
def two_machines() -> Iterator[tuple[Path, Path]]:
    """Temporary folders with names so short that a socket may lie in them."""
    with tempfile.TemporaryDirectory() as here, tempfile.TemporaryDirectory() as there:
        yield Path(here), Path(there)


def assert_same(folder: Path, bucket: str, undisturbed: Path) -> RunDetail:
    """The rows and weights of the one trained undisturbed; one checkpoint is left."""
    (ours,), (other,) = details(folder), details(undisturbed)
    assert ours.summary.state is State.FINISHED
    assert figures(ours) == figures(other)
    place = folder_of(Store(bucket), ours.summary)
    assert len(place.names()) == 1
    mine = weights(place)
    theirs = weights(folder_of(Store(undisturbed / "runs-checkpoints"), other.summary))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert not list(folder.rglob("*.pt")), "nothing on this machine"
    return ours


def test_interrupted_run_resumes_at_its_step(
    undisturbed: Path, bucket: str, tmp_path: Path
) -> None:
    steps = itertools.count()
    stopped, _ = train(tmp_path, bucket, lambda: next(steps) > 25)
    assert stopped.outcome is Outcome.INTERRUPTED
    names = sorted_names(folder_of(Store(bucket), details(tmp_path)[0].summary))
    assert (len(names), "step-00000" in names[0]) == (2, False)
    ended, notices = train(tmp_path, bucket)
    assert ended.outcome is Outcome.FINISHED
    assert any("goes on after epoch 2" in text for text in notices)
    assert_same(tmp_path, bucket, undisturbed)


@pytest.mark.slow
def test_killed_run_resumes_on_another_machine(
    undisturbed: Path,
    bucket: str,
    s3_settings: dict[str, str],
    tmp_path: Path,
    two_machines: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A machine of its own is a folder of its own for locks; the other's are not to be seen."""
    there, here = two_machines
    monkeypatch.setattr(tempfile, "tempdir", str(here))
    monkeypatch.setattr(leasing, "LEASE_SECONDS", 1.0)
    folder = tmp_path / "work"
    settings = {**s3_settings, "DIA_REPRO_CHECKPOINTS": bucket, "TMPDIR": str(there)}
    process = start(folder, epochs=EPOCHS, environment=settings)
    wait_until(lambda: any(detail.summary.epochs >= 2 for detail in details(folder)))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (before,) = details(folder)
    assert before.summary.state is State.RUNNING
    place = folder_of(Store(bucket), before.summary)
    newest, previous, *_ = sorted_names(place)  # killed while one was written, it has three
    place.write(newest, place.read(newest)[:-100])
    ended, notices = train(folder, bucket)
    assert ended.outcome is Outcome.FINISHED
    assert any("gave none and is taken for dead" in text for text in notices)
    assert any(f"{place.shown(newest)} is damaged: going on from" in text for text in notices)
    after = assert_same(folder, bucket, undisturbed)
    assert after.provenance[-1]["from_epoch"] == int(previous.split("-")[1])
    assert list(there.glob(f"dia-repro-*/{place.path}/lock"))
    assert list(here.glob(f"dia-repro-*/{place.path}/lock"))


def test_lock_is_seen_on_the_same_machine(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locks").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "locks"))
    folder = tmp_path / "work"
    folder.mkdir()
    database, (job,) = make_jobs(folder, [tiny_spec(epochs=1)], 1, bucket)
    (run,) = all_runs(database)
    place = lock_location(folder_of(job.checkpoints, run))
    assert place.is_relative_to(tmp_path / "locks")
    held = acquire_lock(place)
    assert held is not None
    assert lock_id(place) == lock_id(lock_location(folder_of(Store(bucket), run)))
    assert Attempt(job, lambda _: None, never).run().outcome is Outcome.BUSY
    with pytest.raises(BusyRunError):
        remove_run(database, job.checkpoints, run, only_checkpoints=True)
    held.release()
    assert dead_runs(database, job.checkpoints) == {}
    assert Attempt(job, lambda _: None, never).run().outcome is Outcome.FINISHED
    (run,) = all_runs(database)
    assert remove_run(database, job.checkpoints, run, only_checkpoints=False) == 1
    assert (job.checkpoints.run_folders(), all_runs(database)) == ({}, ())
    database.close()


def test_the_lock_is_no_network_file_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server may keep the lock of a machine that is gone, and no other could go on."""
    folder = Store(tmp_path, "1-abc/seed-0-123")
    assert lock_location(folder) == tmp_path / "1-abc/seed-0-123"
    monkeypatch.setattr(leasing, "network_file_system", lambda path: "nfs4")
    assert not lock_location(folder).is_relative_to(tmp_path)


def spoil(folder: Path, how: str) -> None:
    """Make a folder as another user may have done."""
    if how == "a link":
        folder.symlink_to(folder.parent, target_is_directory=True)
        return
    folder.mkdir()
    if how == "writable by others":
        folder.chmod(0o770)
    elif os.getuid():
        pytest.skip("only root can give a folder to another user")
    else:
        os.chown(folder, 65534, 65534)


@pytest.mark.parametrize("how", ["a link", "another user's", "writable by others"])
def test_locks_are_not_put_where_others_can_write(
    how: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spoil(tmp_path / f"dia-repro-{os.getuid()}", how)
    with pytest.raises(SharedFolderError, match=f"dia-repro-{os.getuid()} is a link, another"):
        lock_location(Store(bucket, "1-abc/seed-0-123"))
    assert lock_location(Store(tmp_path, "x")) == tmp_path / "x"


def test_unsafe_lock_folder_refuses_the_run(bucket: str, tmp_path: Path) -> None:
    spoil(tmp_path / f"dia-repro-{os.getuid()}", "a link")
    write_folder(tmp_path / "pets", {"train": 4, "val": 4})
    words = "run table5 --protocol demo --dataset folder:pets --image-size 8 --yes --checkpoints"
    result = subprocess.run(
        [sys.executable, "-m", "dia_repro", *words.split(), bucket, "--only", "SENet ResNet83"],
        cwd=tmp_path,
        env=clean_environment(TMPDIR=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == ABSENT
    assert result.stderr.splitlines()[-1].endswith("set TMPDIR to a folder that only you can write")
    assert not (tmp_path / "runs.db").exists()


def test_folder_of_locks_is_shared_and_private(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = os.umask(0)
    try:
        places = [lock_location(Store(bucket, "1-abc/seed-0-123")) for _ in range(2)]
        lock = acquire_lock(places[0])
    finally:
        os.umask(before)
    assert lock is not None
    lock.release()
    assert places[0] == places[1] == lock_location(Store(bucket, "1-abc/seed-0-123"))
    assert (tmp_path / f"dia-repro-{os.getuid()}").stat().st_mode & 0o777 == 0o700


def test_lost_store_fails_the_run_and_rerun_resumes(
    undisturbed: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bucket refuses writes after the second epoch, as with a token that has expired."""
    written: list[str] = []
    real = Store.write

    def refuse(self: Store, path: str, content: bytes) -> None:
        written.append(path)
        place = self if len(written) <= 2 else Store(f"{bucket}-gone")
        real(place, path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", refuse)
        ended, _ = train(tmp_path, bucket)
    assert ended.outcome is Outcome.FAILED
    assert "cannot write a checkpoint to s3://" in (ended.detail or "")
    assert details(tmp_path)[0].summary.epochs == 2
    assert train(tmp_path, bucket)[0].outcome is Outcome.FINISHED
    assert_same(tmp_path, bucket, undisturbed)


def test_traceback_of_a_run_is_next_to_its_checkpoints(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Trainer, *_: object) -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(Trainer, "run_epoch", broken)
    ended, _ = train(tmp_path, bucket)
    assert (ended.outcome, ended.detail) == (Outcome.FAILED, "ZeroDivisionError: on purpose")
    place = folder_of(Store(bucket), details(tmp_path)[0].summary)
    assert b"ZeroDivisionError: on purpose" in place.read("traceback.txt")


def test_orders_are_sent_without_a_connection(bucket: str, tmp_path: Path) -> None:
    import pickle

    database, (job,) = make_jobs(tmp_path, [tiny_spec()], 1, bucket)
    job.checkpoints.names()
    sent: Job = pickle.loads(pickle.dumps(job))
    assert sent == job
    database.close()
