"""What every backend promises: the states of a run, and what is written on the way."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, select, text

from dia_repro.results import writer
from dia_repro.results.database import Database, DatabaseError, open_database
from dia_repro.results.leases import AlreadyDoneError, ChangedError, take
from dia_repro.results.migrations import REVISION
from dia_repro.results.queries import UnknownRunError, all_runs, run_detail, runs_of
from dia_repro.results.schema import Base, EpochRow, State
from tests.results.rows import PROVENANCE, SPEC, begin, ensure, epoch


def test_a_spec_and_seed_happen_once(database: Database) -> None:
    first = ensure(database, seeds=2)
    assert ensure(database, seeds=3)[:2] == first
    assert [run.seed for run in all_runs(database)] == [0, 1, 2]
    assert len({run.uid for run in all_runs(database)}) == 3


def test_from_pending_to_finished(database: Database) -> None:
    (run,) = ensure(database)
    assert all_runs(database)[0].state is State.PENDING
    lease = begin(database, run)
    assert (all_runs(database)[0].state, all_runs(database)[0].owner) == (State.RUNNING, "me")
    writer.record_epoch(database, lease, epoch(1, 70.0))
    writer.record_epoch(database, lease, epoch(2, 60.0))
    writer.end(database, lease, State.FINISHED, wall_seconds=3.5, peak_memory_bytes=7)
    detail = run_detail(database, run)
    assert detail.summary.state is State.FINISHED
    assert detail.summary.owner is None
    assert (detail.summary.best_top1, detail.summary.last_top1) == (70.0, 60.0)
    assert detail.summary.seconds == 4.0
    assert detail.spec_json == SPEC.canonical_json()
    assert detail.provenance[0]["wall_seconds"] == 3.5
    assert detail.provenance[0]["peak_memory_bytes"] == 7


@pytest.mark.parametrize("state", [State.FINISHED, State.DIVERGED])
def test_a_run_with_a_result_is_not_started_again(database: Database, state: State) -> None:
    (run,) = ensure(database)
    lease = begin(database, run)
    writer.end(database, lease, state, wall_seconds=1.0, peak_memory_bytes=1)
    with pytest.raises(AlreadyDoneError):
        begin(database, run, "me again")


@pytest.mark.parametrize("state", [State.FAILED, State.INTERRUPTED])
def test_other_runs_start_again_and_keep_their_attempts(database: Database, state: State) -> None:
    (run,) = ensure(database)
    lease = begin(database, run)
    writer.end(database, lease, state, reason="x", wall_seconds=1.0, peak_memory_bytes=1)
    assert all_runs(database)[0].reason == "x"
    begin(database, run, "me again")
    detail = run_detail(database, run)
    assert len(detail.provenance) == 2
    assert detail.summary.reason is None


def test_test_images_are_those_of_the_last_attempt_that_says(database: Database) -> None:
    """The first one ended before an epoch, on other data; the last one is an old row."""
    (run,) = ensure(database)
    others = {"data_sha256": "1", "test_images": 900}
    for recorded in (others, {"test_images": 400}, {"test_images": None}):
        lease = take(database, run, "me", "here", {**PROVENANCE, **recorded})
        if recorded is not others:
            writer.record_epoch(database, lease, epoch(all_runs(database)[0].epochs + 1))
        writer.end(database, lease, State.INTERRUPTED, wall_seconds=1.0, peak_memory_bytes=1)
    assert all_runs(database)[0].test_images == 400


def test_epochs_follow_the_checkpoint(database: Database) -> None:
    (run,) = ensure(database)
    lease = begin(database, run)
    assert writer.align(database, lease, [epoch(1), epoch(2)], {}) == 0
    assert all_runs(database)[0].epochs == 2
    assert writer.align(database, lease, [epoch(1), epoch(2), epoch(3)], {}) == 0
    assert all_runs(database)[0].epochs == 3
    assert writer.align(database, lease, [epoch(1)], {}) == 2
    assert [row["epoch"] for row in run_detail(database, run).epochs] == [1]
    assert writer.align(database, lease, [epoch(1, 10.14)], {}) == 1
    assert all_runs(database)[0].best_top1 == 10.14


def test_an_epoch_follows_the_last_one(database: Database) -> None:
    (run,) = ensure(database)
    lease = begin(database, run)
    writer.record_epoch(database, lease, epoch(1, 70.0))
    for number in (1, 3):
        with pytest.raises(ChangedError, match=f"epoch {number} of run {run} does not follow"):
            writer.record_epoch(database, lease, epoch(number, 80.0))
    assert all_runs(database)[0].best_top1 == 70.0


def test_a_dead_worker_fails_only_its_own_run(database: Database) -> None:
    (run,) = ensure(database)
    lease = begin(database, run)
    for other in (None, replace(lease, token="another"), replace(lease, attempt=9)):
        writer.record_loss(database, SPEC.spec_id, 0, other, "killed")
        writer.record_loss(database, SPEC.spec_id, 0, other)
        assert all_runs(database)[0].state is State.RUNNING
    writer.record_loss(database, SPEC.spec_id, 0, lease, "killed")
    assert (all_runs(database)[0].state, all_runs(database)[0].reason) == (State.FAILED, "killed")
    lease = begin(database, run)
    writer.end(database, lease, State.FINISHED, wall_seconds=1.0, peak_memory_bytes=1)
    writer.record_loss(database, SPEC.spec_id, 0, lease, "killed")
    writer.record_loss(database, SPEC.spec_id, 0, lease)
    assert all_runs(database)[0].state is State.FINISHED


def test_a_killed_worker_leaves_its_run_free(database: Database) -> None:
    (run,) = ensure(database)
    writer.record_loss(database, SPEC.spec_id, 0, begin(database, run))
    assert all_runs(database)[0].state is State.INTERRUPTED
    begin(database, run, "another", "elsewhere")


def test_a_failure_before_the_start_is_recorded_too(database: Database) -> None:
    ensure(database)
    writer.record_loss(database, SPEC.spec_id, 0, None, "no data")
    assert (all_runs(database)[0].state, all_runs(database)[0].reason) == (State.FAILED, "no data")


def test_a_failure_that_is_told_late_changes_no_other_state(database: Database) -> None:
    (run,) = ensure(database)
    lease = begin(database, run)
    writer.end(database, lease, State.FAILED, wall_seconds=1.0, peak_memory_bytes=1)
    later = begin(database, run)
    writer.end(database, later, State.INTERRUPTED, wall_seconds=1.0, peak_memory_bytes=1)
    writer.record_loss(database, SPEC.spec_id, 0, lease, "killed")
    writer.record_loss(database, "1-" + "0" * 16, 0, None, "killed")  # its run was removed
    assert all_runs(database)[0].state is State.INTERRUPTED


def test_the_database_itself_refuses_what_makes_no_sense(database: Database) -> None:
    ensure(database)
    for statement in (
        "update runs set state = 'unheard of'",
        "update runs set seed = -1",
        "insert into epochs values (99, 1, 0, 0, 0, 0, 0, 0, null, null)",
        "update runs set spec_id = 'none such'",
    ):
        with pytest.raises(DatabaseError), database.writing() as session:
            session.execute(text(statement))


def test_runs_of_specs_without_any(database: Database) -> None:
    ensure(database)
    found = runs_of(database, [SPEC.spec_id, "1-none"])
    assert (len(found[SPEC.spec_id]), found["1-none"]) == (1, ())


def test_an_unknown_run_is_refused(database: Database) -> None:
    with pytest.raises(UnknownRunError, match="no run 5"):
        run_detail(database, 5)


def test_numbers_that_are_not_finite_come_back(database: Database) -> None:
    (run,) = ensure(database)
    lease = begin(database, run)
    odd = [math.nan, math.inf, -math.inf, 0.1 + 0.2, 5e-324]
    for number, loss in enumerate(odd, start=1):
        figures = {**epoch(number), "train_loss": loss, "test_loss": loss}
        writer.record_epoch(database, lease, figures)
    with database.reading() as session:
        again = list(session.scalars(select(EpochRow.train_loss).order_by(EpochRow.epoch)))
    assert [repr(number) for number in again] == [repr(number) for number in odd]


def test_what_is_not_finite_is_never_the_best(database: Database) -> None:
    (run,) = ensure(database)
    lease = begin(database, run)
    for number, top1 in enumerate([10.0, 30.0, math.nan, math.inf, 20.0], start=1):
        writer.record_epoch(database, lease, epoch(number, top1))
    (summary,) = all_runs(database)
    assert (summary.best_top1, summary.last_top1, summary.epochs) == (30.0, 20.0, 5)


def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    (run,) = ensure(database)
    lease = begin(database, run)
    writer.record_epoch(database, lease, epoch(1))
    incomplete = {name: value for name, value in epoch(2).items() if name != "seconds"}
    with pytest.raises(DatabaseError, match=r"(?i)not.null"):
        writer.align(database, lease, [epoch(1, 7.0), incomplete], {})
    assert all_runs(database)[0].epochs == 1


def test_a_new_database_has_the_newest_schema(database: Database) -> None:
    with database.reading() as session:
        context = MigrationContext.configure(session.connection())
        assert context.get_current_revision() == REVISION
        assert compare_metadata(context, Base.metadata) == []


def test_reading_what_is_not_there_makes_nothing(location: str) -> None:
    assert all_runs(open_database(location, create=False)) == ()
    assert all_runs(open_database(location, create=False)) == ()


def test_several_processes_may_create_it_at_once(location: str) -> None:
    def add_run(_: int) -> int:
        database = open_database(location, create=True)
        try:
            return ensure(database)[0]
        finally:
            database.close()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(add_run, range(8))) == {1}
    assert len(all_runs(open_database(location, create=False))) == 1


def test_a_reader_sees_one_state_throughout(database: Database, location: str) -> None:
    """And does not keep a writer of PostgreSQL waiting; SQLite's waits for it."""
    (run,) = ensure(database)
    lease = begin(database, run)
    count = select(func.count()).select_from(EpochRow)
    other = open_database(location, create=False)
    with database.reading() as session, ThreadPoolExecutor(1) as pool:
        assert session.scalar(count) == 0
        written = pool.submit(writer.record_epoch, other, lease, epoch(1))
        wait([written], timeout=0.5)
        assert session.scalar(count) == 0
        session.rollback()
        written.result()
    assert all_runs(database)[0].epochs == 1
    other.close()


def test_a_writer_waits_for_the_other(database: Database, location: str) -> None:
    other = open_database(location, create=False)
    with ThreadPoolExecutor(1) as pool:
        with database.writing() as session:
            session.execute(text("delete from runs"))
            second = pool.submit(ensure, other)
            assert not wait([second], timeout=0.5).done
        assert second.result()
    other.close()
