"""One process at a time trains a run."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select

from dia_repro.execution import leasing
from dia_repro.execution.leasing import acquire_lock, heartbeat, lock_id, silent
from dia_repro.execution.run_store import RunStore
from dia_repro.results import backends, leases, writer
from dia_repro.results.database import Database, open_database
from dia_repro.results.leases import (
    AlreadyDoneError,
    HeldError,
    Lease,
    OtherDataError,
    Owner,
    TakenOverError,
    owners,
)
from dia_repro.results.queries import all_runs, run_detail
from dia_repro.results.schema import RunRow, State
from tests.results.rows import PROVENANCE, SPEC, begin, ensure, epoch

LEASE = 1.0


def end(database: Database, lease: Lease) -> None:
    writer.end(database, lease, State.FINISHED, wall_seconds=1.0, peak_memory_bytes=1, reason=None)


def watch(
    database: Database, owner: Owner, lease: float, *, stop: bool = False
) -> tuple[Owner, ...]:
    run_store = RunStore(database)
    return silent(lambda: run_store.look(owner.lease.run_id), [owner], lambda: stop, lease)


def test_a_run_has_one_owner(database: Database) -> None:
    (run,) = ensure(database)
    lease = begin(database, run, "first", "machine one")
    with pytest.raises(HeldError, match="being trained by first"):
        begin(database, run, "second", "machine two")
    end(database, lease)
    assert owners(database) == ()
    with pytest.raises(AlreadyDoneError):
        begin(database, run, "second", "machine two")


def test_earlier_owner_of_the_same_lock_is_dead(database: Database) -> None:
    (run,) = ensure(database)
    begin(database, run, "first", "machine one:/runs/lock:7")
    lease = begin(database, run, "second", "machine one:/runs/lock:7")
    assert [(owner.process, owner.lease) for owner in owners(database)] == [("second", lease)]


def test_a_run_under_way_binds_the_data(database: Database) -> None:
    """Before the end of its first epoch, too; a run that never got there binds none."""
    first, second = ensure(database, seeds=2)
    lease = begin(database, first)
    other = {**PROVENANCE, "data_sha256": "1"}
    with pytest.raises(OtherDataError, match="SHA-256 1… instead of 0…"):
        leases.take(database, second, "me", "here", other)
    again = leases.take(database, first, "me", "here", other)  # its own lease is no other
    assert again != lease
    with pytest.raises(OtherDataError):
        begin(database, second)
    writer.record_loss(database, SPEC.spec_id, 0, again)
    begin(database, second)


def test_a_replaced_owner_writes_nothing(database: Database) -> None:
    (run,) = ensure(database)
    slow = begin(database, run, "slow", "machine one")
    (owner,) = owners(database)
    quick = begin_after(database, run, owner)
    for forbidden in (
        lambda: writer.record_epoch(database, slow, epoch(1)),
        lambda: writer.align(database, slow, [epoch(1)], {}),
        lambda: writer.set_parameters(database, slow, 5),
        lambda: leases.renew(database, slow),
        lambda: end(database, slow),
    ):
        with pytest.raises(TakenOverError):
            forbidden()
    assert (all_runs(database)[0].epochs, all_runs(database)[0].state) == (0, State.RUNNING)
    writer.record_epoch(database, quick, epoch(1))
    end(database, quick)


def test_a_lease_is_valid_in_one_database(database: Database, tmp_path: Path) -> None:
    """A new database at the same path counts runs and attempts from 1 again."""
    (run,) = ensure(database)
    lease = begin(database, run)
    fresh = open_database(str(tmp_path / "fresh.db"), create=True)
    assert ensure(fresh) == [run]
    other = begin(fresh, run)
    assert (other.run_id, other.attempt) == (lease.run_id, lease.attempt)
    with pytest.raises(TakenOverError):
        writer.record_epoch(fresh, lease, epoch(1))
    with pytest.raises(TakenOverError):
        end(fresh, lease)
    fresh.close()


def begin_after(database: Database, run: int, dead: leases.Owner) -> Lease:
    provenance = {
        name: value
        for name, value in run_detail(database, run).provenance[0].items()
        if name != "started_at"
    }
    return leases.take(database, run, "quick", "machine two", provenance, dead)


def test_a_late_heartbeat_keeps_the_lease(database: Database) -> None:
    (run,) = ensure(database)
    lease = begin(database, run, "slow", "machine one")
    (owner,) = owners(database)
    leases.renew(database, lease)
    with pytest.raises(HeldError):
        begin_after(database, run, owner)


def test_a_silent_owner_is_dead_after_the_lease(database: Database) -> None:
    (run,) = ensure(database)
    begin(database, run, "dead", "machine one")
    (owner,) = owners(database)
    begun = time.monotonic()
    assert watch(database, owner, LEASE) == (owner,)
    assert time.monotonic() - begun >= LEASE
    assert watch(database, owner, LEASE, stop=True) == ()


def test_an_owner_with_heartbeats_keeps_its_lease(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leasing, "HEARTBEAT_SECONDS", LEASE / 4)
    (run,) = ensure(database)
    lease = begin(database, run, "slow", "machine one")
    with heartbeat(RunStore(database), lease) as taken_over:
        (owner,) = owners(database)
        begun = time.monotonic()
        assert watch(database, owner, 10 * LEASE) == ()
        assert time.monotonic() - begun < 5 * LEASE, "a sign of life ends the watch"
        assert not taken_over.is_set()
    assert "heartbeat" not in [thread.name for thread in threading.enumerate()]


def test_a_clock_that_jumps_ends_no_lease(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour that the clock jumps, on either machine, makes nobody dead and nobody alive."""
    monkeypatch.setattr(leasing, "HEARTBEAT_SECONDS", LEASE / 4)
    (run,) = ensure(database)
    lease = begin(database, run, "slow", "machine one")
    real = time.time
    for hours in (1, -1):
        monkeypatch.setattr(time, "time", lambda hours=hours: real() + 3600 * hours)
        with heartbeat(RunStore(database), lease):
            (owner,) = owners(database)
            assert watch(database, owner, LEASE) == ()
        (owner,) = owners(database)
        assert watch(database, owner, LEASE / 2) == (owner,)


@pytest.mark.parametrize("kind", ["writing", "reading"])
def test_silence_counts_only_while_heartbeats_can_be_written(
    kind: str, database: Database, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long merge keeps heartbeats out; in SQLite a long export does, too."""
    monkeypatch.setattr(leasing, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(backends, "ONE_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(backends, "BUSY_SECONDS", 0.2)  # the owner gives up, and tries again
    (run,) = ensure(database)
    lease = begin(database, run, "slow", "machine one")
    (owner,) = owners(database)
    other = open_database(location, create=False)
    taken = threading.Event()

    def hold() -> None:
        with getattr(other, kind)() as session:
            session.execute(select(RunRow.id))
            taken.set()
            time.sleep(1.0)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()
    with heartbeat(RunStore(database), lease):
        assert watch(database, owner, 0.4) == ()
        thread.join()
    assert owners(database)[0].beats > owner.beats
    other.close()


def test_a_heartbeat_notices_a_taken_over_run(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leasing, "HEARTBEAT_SECONDS", 0.05)
    (run,) = ensure(database)
    lease = begin(database, run, "slow", "machine one")
    monkeypatch.setattr(leasing, "HEARTBEAT_SECONDS", 0.3)
    with heartbeat(RunStore(database), lease) as taken_over:
        begin(database, run, "quick", "machine one")
        assert taken_over.wait(timeout=10)


def test_eight_processes_train_each_run_once(database: Database, location: str) -> None:
    runs = ensure(database, seeds=10)
    trained: list[int] = []
    lock = threading.Lock()

    def train_all(number: int) -> None:
        mine = open_database(location, create=False)
        for run in runs:
            try:
                lease = begin(mine, run, f"process {number}", f"machine {number}")
            except (HeldError, AlreadyDoneError):
                continue
            writer.record_epoch(mine, lease, epoch(1))
            with lock:
                trained.append(run)
            end(mine, lease)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(train_all, range(8)))
    assert sorted(trained) == runs
    assert all(len(run_detail(database, run).provenance) == 1 for run in runs)


def test_a_folder_has_one_lock_id(tmp_path: Path) -> None:
    places = set()
    for name in ("one", "two"):
        lock = acquire_lock(tmp_path / name)
        assert lock is not None
        places |= {lock_id(tmp_path / name), lock_id(tmp_path / ".." / tmp_path.name / name)}
        lock.release()
    assert len(places) == 2
