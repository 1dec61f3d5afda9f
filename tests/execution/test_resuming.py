"""A resumed run computes as it began to, and its rows are those of its checkpoint."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dia_repro.data.dataset import AnyDataset, Dataset
from dia_repro.execution import attempt
from dia_repro.execution.attempt import Attempt
from dia_repro.execution.leasing import acquire_lock, lock_location
from dia_repro.execution.maintenance import (
    BusyRunError,
    check_removable,
    folder_of,
    remove_run,
)
from dia_repro.execution.messages import Begun, Ended, Job, Message, Notice, Outcome, Progress
from dia_repro.execution.run_store import RunStore
from dia_repro.experiments.names import Keep
from dia_repro.experiments.spec import Spec
from dia_repro.results import backends, writer
from dia_repro.results.database import Database, DatabaseError, open_database
from dia_repro.results.leases import OtherDataError, take
from dia_repro.results.merge import merge
from dia_repro.results.queries import (
    RunDetail,
    UnknownRunError,
    all_runs,
    analysis_parts,
    run_detail,
)
from dia_repro.results.schema import State
from dia_repro.training import checkpoint, provenance
from dia_repro.training.metrics import EpochMetrics
from dia_repro.training.store import CheckpointError, Store
from dia_repro.training.trainer import Trainer
from tests.execution.tiny_runs import make_jobs
from tests.helpers import few_digits, tiny_spec
from tests.results.rows import PROVENANCE

FEW = few_digits(5 * 128, 100)
ELSEWHERE = "another processor"


@pytest.fixture(autouse=True)
def threads() -> object:
    """Leave torch's number of threads as it was."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def train(job: Job, until: int | None = None, steps: int | None = None) -> tuple[Ended, list[str]]:
    """Train, or stop after so many epochs, or so many more steps; return the notices too."""
    said: list[Message] = []
    asked = 0

    def enough() -> bool:
        nonlocal asked
        asked += any(isinstance(message, Begun) for message in said)
        done = [message.epochs for message in said if isinstance(message, Progress)]
        return (until is not None and max(done, default=0) >= until) or asked == steps

    ended = Attempt(job, said.append, enough).run()
    return ended, [message.text for message in said if isinstance(message, Notice)]


@pytest.fixture(scope="module", autouse=True)
def few_images() -> Iterator[None]:
    """Epochs of five steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempt, "load", lambda *_: FEW)
        yield


@pytest.fixture(scope="module")
def stopped(few_images: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that was stopped after its first epoch, trained with one thread."""
    folder = tmp_path_factory.mktemp("stopped")
    before = torch.get_num_threads()
    database, (job,) = make_jobs(folder, [tiny_spec(epochs=2)], 1)
    ended, _ = train(job, until=1)
    database.close()
    torch.set_num_threads(before)
    assert ended.outcome is Outcome.INTERRUPTED
    return folder


@pytest.fixture
def begun(stopped: Path, tmp_path: Path) -> tuple[Database, Job]:
    """Return that run, in a folder that is the test's own."""
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    database, (job,) = make_jobs(tmp_path, [tiny_spec(epochs=2)], 1)
    return database, job


def folder_in(database: Database, job: Job) -> Store:
    return folder_of(job.checkpoints, run_detail(database, job.run_id).summary)


def values(detail: RunDetail) -> list[object]:
    return [{**epoch, "seconds": None} for epoch in detail.epochs]


def undisturbed(folder: Path) -> list[object]:
    folder.mkdir()
    database, (job,) = make_jobs(folder, [tiny_spec(epochs=2)], 1)
    train(job)
    return values(run_detail(database, job.run_id))


def test_threads_are_those_it_began_with(begun: tuple[Database, Job], tmp_path: Path) -> None:
    database, job = begun
    _, notices = train(replace(job, threads=2))
    detail = run_detail(database, job.run_id)
    assert [row["threads"] for row in detail.provenance] == [1, 1]
    assert not [text for text in notices if "bit for bit" in text]
    assert values(detail) == undisturbed(tmp_path / "undisturbed")


def test_threads_of_old_checkpoints_come_from_provenance(
    begun: tuple[Database, Job],
) -> None:
    database, job = begun
    folder = folder_in(database, job)
    loaded = checkpoint.load_newest(folder)
    assert loaded is not None
    old = {name: value for name, value in loaded.content.items() if name != provenance.KEY}
    for name in checkpoint.sorted_names(folder):
        folder.remove(name)
    checkpoint.save(folder, old, len(old["history"]), old["position"])
    train(replace(job, threads=2))
    attempts = run_detail(database, job.run_id).provenance
    assert [row["threads"] for row in attempts] == [1, 1]


def test_what_cannot_be_restored_is_said(
    begun: tuple[Database, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, job = begun
    monkeypatch.setattr(provenance, "device_name", lambda _device: ELSEWHERE)
    _, notices = train(job)
    (said,) = [text for text in notices if "bit for bit" in text]
    assert f"goes on with device {ELSEWHERE} instead of" in said


def test_another_runs_checkpoint_is_refused(begun: tuple[Database, Job], tmp_path: Path) -> None:
    """Copied by hand, as when folders are put together."""
    _, job = begun
    database, (_, other) = make_jobs(tmp_path, [tiny_spec(epochs=2)], 2)
    runs = [run_detail(database, number).summary for number in (job.run_id, other.run_id)]
    first, second = (folder_of(job.checkpoints, run) for run in runs)
    (name, *_) = checkpoint.sorted_names(first)
    second.write(name, first.read(name))
    with pytest.raises(CheckpointError, match="belongs to another run"):
        train(other)
    assert run_detail(database, other.run_id).epochs == ()


def test_environment_that_stops_torch_restarts_no_run(
    begun: tuple[Database, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, job = begun
    run = run_detail(database, job.run_id)
    folder = folder_of(job.checkpoints, run.summary)
    files = sorted(folder.names())
    with monkeypatch.context() as context:
        context.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
        context.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
        with pytest.raises(CheckpointError, match="torch cannot load it"):
            train(job)
    assert sorted(folder.names()) == files
    assert values(run_detail(database, job.run_id)) == values(run)
    ended, notices = train(job)
    assert ended.outcome is Outcome.FINISHED
    assert any("goes on after epoch 1" in text for text in notices)


def test_other_data_than_the_experiments_are_refused(
    begun: tuple[Database, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with another copy of ImageNet on another machine, whose spec has no hash."""
    database, job = begun
    known = FEW.digest()[:12]
    monkeypatch.setattr(Dataset, "digest", lambda _self: "f" * 64)
    with pytest.raises(OtherDataError, match="was trained on other data"):
        train(job)
    _, (_, other) = make_jobs(Path(job.database).parent, [tiny_spec(epochs=2)], 2)
    with pytest.raises(OtherDataError, match=f"SHA-256 ffffffffffff… instead of {known}…"):
        train(other)
    assert len(run_detail(database, job.run_id).epochs) == 1


def test_merge_before_the_lease_is_noticed(
    begun: tuple[Database, Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another database has the run finished; it is merged while this process loads its data."""
    database, job = begun
    (tmp_path / "other").mkdir()
    other, (further,) = make_jobs(tmp_path / "other", [tiny_spec(epochs=2)], 1)
    train(further)
    load = Attempt._load

    def merging(self: Attempt) -> AnyDataset:
        merge(database, [other], skip_conflicts=False)
        return load(self)

    monkeypatch.setattr(Attempt, "_load", merging)
    ended, _ = train(job)
    assert ended.outcome is Outcome.DONE_BEFORE
    assert values(run_detail(database, job.run_id)) == values(run_detail(other, further.run_id))


@pytest.mark.parametrize("keep", list(Keep))
def test_weights_stay_until_the_end_is_recorded(
    keep: Keep, begun: tuple[Database, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, job = begun

    class FullDiskError(Exception):
        pass

    def fail(*_arguments: object, **_options: object) -> None:
        raise FullDiskError

    monkeypatch.setattr(RunStore, "end", fail)
    with pytest.raises(FullDiskError):
        train(replace(job, keep=keep))
    monkeypatch.undo()
    ended, notices = train(replace(job, keep=keep))
    assert ended.outcome is Outcome.FINISHED
    assert not any("starts again" in text for text in notices)
    folder = folder_in(database, job)
    assert len(checkpoint.sorted_names(folder)) == (0 if keep is Keep.NONE else 1)


@pytest.mark.slow
def test_best_weights_that_are_gone_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They went while the run was trained with `--keep last`."""
    database, (job,) = make_jobs(tmp_path, [tiny_spec(epochs=4)], 1)
    assert train(job, until=3)[0].outcome is Outcome.INTERRUPTED
    monkeypatch.setattr(attempt, "chosen_epoch", lambda _history: 1)
    ended, notices = train(replace(job, keep=Keep.BEST))
    assert ended.outcome is Outcome.FINISHED
    assert any("weights of its best epoch (1) are gone: the last ones stay" in n for n in notices)
    folder = folder_in(database, job)
    (kept,) = checkpoint.sorted_names(folder)
    assert kept.startswith("epoch-0004-")


def test_process_taken_for_dead_saves_nothing(
    begun: tuple[Database, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, job = begun
    names: list[list[str]] = []
    end_epoch = Trainer.run_epoch

    def taken_over(self: Trainer, *arguments: Any) -> EpochMetrics:
        metrics = end_epoch(self, *arguments)
        with open_database(job.database, create=False).engine.begin() as connection:
            connection.exec_driver_sql("update leases set attempt = attempt - 1")
        names.append(sorted(path.name for path in Path(job.database).parent.rglob("*.pt")))
        return metrics

    monkeypatch.setattr(Trainer, "run_epoch", taken_over)
    ended, _ = train(job)
    assert ended.outcome is Outcome.BUSY
    assert names == [sorted(path.name for path in Path(job.database).parent.rglob("*.pt"))]


def test_reused_run_number_is_not_trained(
    begun: tuple[Database, Job],
) -> None:
    """Its own run was removed while it waited, and numbers are used again."""
    _, job = begun
    other = tiny_spec(epochs=2, lr=0.05)
    ended, _ = train(replace(job, spec_json=other.canonical_json()))
    assert ended.outcome is Outcome.BUSY


def test_damaged_checkpoints_do_not_displace_sound_ones(
    begun: tuple[Database, Job],
) -> None:
    database, job = begun
    folder = folder_in(database, job)
    damaged = [f"epoch-00{n}-step-00000-{'0' * 32}.pt" for n in (98, 99)]
    for name in damaged:
        folder.write(name, b"damaged")
    ended, notices = train(job)
    assert ended.outcome is Outcome.FINISHED
    assert sum("is damaged" in text for text in notices) == 2
    (last,) = checkpoint.sorted_names(folder)
    assert last.startswith("epoch-0002-")
    assert not [name for name in folder.names() if "damaged" in name], "of no use once it is done"


def test_a_run_that_starts_again_is_free(begun: tuple[Database, Job], tmp_path: Path) -> None:
    """Nothing of its former training is left, so nothing has to agree with it."""
    database, job = begun
    _, notices = train(replace(job, threads=2, checkpoints=Store(tmp_path / "elsewhere")))
    attempts = run_detail(database, job.run_id).provenance
    assert [row["threads"] for row in attempts] == [1, 2]
    assert any("starts again from the first epoch" in text for text in notices)


@pytest.mark.parametrize(
    "change", ["a wrong row", pytest.param("a row too many", marks=pytest.mark.slow)]
)
def test_rows_are_those_of_the_checkpoint(
    change: str, begun: tuple[Database, Job], tmp_path: Path
) -> None:
    database, job = begun
    statements: dict[str, Callable[[], str]] = {
        "a wrong row": lambda: "update epochs set test_top1 = 77.77",
        "a row too many": lambda: (
            "insert into epochs (run_id, epoch, lr, train_loss, train_top1, test_loss, test_top1, "
            "seconds) select run_id, 2, lr, train_loss, train_top1, test_loss, test_top1, seconds "
            "from epochs"
        ),
    }
    with database.engine.begin() as connection:
        connection.exec_driver_sql(statements[change]())
    _, notices = train(job)
    assert "1 epochs that the checkpoint does not have were removed" in " ".join(notices)
    expected = undisturbed(tmp_path / "undisturbed")
    assert values(run_detail(database, job.run_id)) == expected


def test_gradients_of_another_attempt_are_removed(tmp_path: Path) -> None:
    """Figure 6's parts are recorded at each epoch's start; a run that starts again has new ones."""
    spec = tiny_spec(epochs=2)
    spec = spec.model_copy(update={"model": spec.model.model_copy(update={"skip": False})})
    database, (job,) = make_jobs(tmp_path, [spec], 1)
    stale = {0: '[{"false": 1}]', 7: "[]"}
    uid, settings = run_detail(database, job.run_id).summary.uid, '{"kind": "gradients"}'
    for part, content in stale.items():
        writer.record_part(database, uid, settings, "{}", part, content, 0.0)
    ended, _ = train(job)
    assert ended.outcome in (Outcome.FINISHED, Outcome.DIVERGED)
    parts = analysis_parts(database, job.run_id, '{"kind": "gradients"}')
    assert 7 not in parts
    assert "false" not in parts[0]


class KilledError(BaseException):
    """Stands for SIGKILL: nothing after it is done."""


class MortalStore(RunStore):
    """One whose process is killed when it calls `dies_at` for the `times`th time."""

    def __init__(self, database: Database, dies_at: str, times: int) -> None:
        super().__init__(database)
        self.dies_at, self.times = dies_at, times

    def __getattribute__(self, name: str) -> Any:
        if name == object.__getattribute__(self, "__dict__").get("dies_at"):
            self.times -= 1
            if not self.times:
                raise KilledError
        return super().__getattribute__(name)


@pytest.mark.parametrize("dies_at", ["record_epoch", "record_gradients"])
def test_gradients_survive_a_kill_at_the_last_epoch(dies_at: str, tmp_path: Path) -> None:
    spec = tiny_spec(epochs=2)
    spec = spec.model_copy(update={"model": spec.model.model_copy(update={"skip": False})})
    database, (job,) = make_jobs(tmp_path, [spec], 1)
    run_store = MortalStore(open_database(job.database, create=False), dies_at, 2)
    with pytest.raises(KilledError):
        Attempt(job, lambda _: None, lambda: False, run_store).run()
    ended, _ = train(job)
    assert ended.outcome is Outcome.FINISHED
    assert set(analysis_parts(database, job.run_id, '{"kind": "gradients"}')) == {0, 1}


def test_run_replaced_before_its_lock_is_read_again(
    begun: tuple[Database, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was removed and made anew while this process waited for the lock."""
    database, job = begun
    first = run_detail(database, job.run_id).summary
    real = acquire_lock

    def removed_meanwhile(place: Path) -> object:
        monkeypatch.setattr(attempt, "acquire_lock", real)
        assert writer.remove_run(database, first.uid, first.changed_at, ())
        spec = Spec.from_json(job.spec_json)
        writer.ensure_runs(database, {spec.spec_id: job.spec_json}, [job.seed])
        return real(place)

    monkeypatch.setattr(attempt, "acquire_lock", removed_meanwhile)
    ended, notices = train(job)
    assert ended.outcome is Outcome.FINISHED
    assert any("another one than a moment ago: looked at again" in text for text in notices)
    assert not any("goes on after" in text for text in notices)
    again = run_detail(database, job.run_id).summary
    assert again.uid != first.uid
    folder = checkpoint.run_folder(job.checkpoints, again.spec_id, again.seed, again.uid)
    assert len(checkpoint.sorted_names(folder)) == 1


def test_a_run_that_is_taken_up_meanwhile_is_not_removed(
    begun: tuple[Database, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a process with another folder of checkpoints, which no lock keeps out."""
    database, job = begun
    shown = run_detail(database, job.run_id).summary
    real = writer.remove_run

    def take_first(*given: Any) -> bool:
        data = run_detail(database, job.run_id).provenance[-1]["data_sha256"]
        there = {**PROVENANCE, "data_sha256": data, "test_images": None}
        take(database, job.run_id, "another process", "its lock", there)
        return real(*given)

    monkeypatch.setattr(writer, "remove_run", take_first)
    folder = folder_of(job.checkpoints, shown)
    before = checkpoint.sorted_names(folder)
    with pytest.raises(BusyRunError, match="taken up by another process: nothing is removed"):
        remove_run(database, job.checkpoints, shown, only_checkpoints=False)
    assert run_detail(database, job.run_id).summary.state is State.RUNNING
    assert checkpoint.sorted_names(folder) == before != []


def test_only_the_shown_run_is_removed(begun: tuple[Database, Job]) -> None:
    database, job = begun
    shown = run_detail(database, job.run_id).summary
    folder = folder_of(job.checkpoints, shown)
    (Path(str(folder)) / "@eaDir").mkdir()  # as some storage makes everywhere
    assert remove_run(database, job.checkpoints, shown, only_checkpoints=True) == 2
    assert writer.remove_run(database, shown.uid, shown.changed_at, ())
    spec = Spec.from_json(job.spec_json)
    writer.ensure_runs(database, {spec.spec_id: job.spec_json}, [job.seed])
    with pytest.raises(UnknownRunError, match="another one than the one shown"):
        remove_run(database, job.checkpoints, shown, only_checkpoints=False)
    assert len(all_runs(database)) == 1


def test_a_run_that_was_trained_since_it_was_shown_is_not_removed(
    begun: tuple[Database, Job],
) -> None:
    database, job = begun
    shown = run_detail(database, job.run_id).summary
    assert train(job)[0].outcome is Outcome.FINISHED
    with pytest.raises(UnknownRunError, match="has changed"):
        remove_run(database, job.checkpoints, shown, only_checkpoints=False)
    (run,) = all_runs(database)
    assert run.state is State.FINISHED
    check_removable(database, job.checkpoints, run)
    held = acquire_lock(lock_location(folder_of(job.checkpoints, run)))
    assert held is not None
    with pytest.raises(BusyRunError):
        check_removable(database, job.checkpoints, run)
    held.release()


def after_each_epoch(monkeypatch: pytest.MonkeyPatch, then: Callable[[], object]) -> None:
    end_epoch = Trainer.run_epoch

    def run_epoch(self: Trainer, *arguments: Any) -> EpochMetrics:
        metrics = end_epoch(self, *arguments)
        then()
        return metrics

    monkeypatch.setattr(Trainer, "run_epoch", run_epoch)


def test_epoch_survives_a_locked_database(
    begun: tuple[Database, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than one wait of the backend, as at the end of an epoch of other runs."""
    database, job = begun

    def lock() -> None:
        connection = sqlite3.connect(job.database, check_same_thread=False, isolation_level=None)
        connection.execute("begin immediate")
        threading.Timer(1.5, connection.close).start()

    after_each_epoch(monkeypatch, lock)
    monkeypatch.setattr(backends, "BUSY_SECONDS", 0.3)
    ended, _ = train(job)
    assert ended.outcome is Outcome.FINISHED, ended.detail
    assert len(run_detail(database, job.run_id).epochs) == 2


def test_an_epoch_outlives_a_database_that_is_gone(
    begun: tuple[Database, Job], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, job = begun
    here, away = Path(job.database), tmp_path / "away.db"
    after_each_epoch(monkeypatch, lambda: here.rename(away))
    with pytest.raises(DatabaseError):
        train(job)
    away.rename(here)
    monkeypatch.undo()
    ended, notices = train(job)
    assert ended.outcome in (Outcome.FINISHED, Outcome.BUSY)
    assert any("goes on after epoch 2, step 0" in text for text in notices), notices


def test_damaged_checkpoints_of_a_first_epoch_are_said(tmp_path: Path) -> None:
    """And do not count among those that are kept: each new one would go at once."""
    database, (job,) = make_jobs(tmp_path, [tiny_spec(epochs=1)], 1)
    for _ in range(2):
        ended, _ = train(job, steps=2)
        assert ended.outcome is Outcome.INTERRUPTED
    damaged = list(tmp_path.rglob("*.pt"))
    assert len(damaged) == 2
    for path in damaged:
        path.write_bytes(path.read_bytes()[:1000])
    ended, notices = train(job, steps=2)
    assert ended.outcome is Outcome.INTERRUPTED
    assert sum("is damaged" in text for text in notices) == 2
    assert any("starts again from the first epoch" in text for text in notices)
    folder = folder_in(database, job)
    assert checkpoint.load_newest(folder) is not None
