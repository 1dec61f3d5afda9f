"""The states of a run, and what is written on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from dia_repro.results import writer
from dia_repro.results.database import Database, DatabaseError, open_database
from dia_repro.results.queries import UnknownRunError, all_runs, run_detail, runs_of
from dia_repro.results.schema import State
from tests.helpers import tiny_spec

PROVENANCE = {
    "host": "h",
    "device": "d",
    "threads": 1,
    "python": "3",
    "torch": "2",
    "cuda": None,
    "package": "0",
    "git_commit": None,
    "git_clean": None,
    "command": "c",
    "data_sha256": "0",
    "from_epoch": 0,
}
SPEC = tiny_spec()


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return open_database(str(tmp_path / "runs.db"), create=True)


def ensure(database: Database, seeds: int = 1) -> list[int]:
    numbers = writer.ensure_runs(database, {SPEC.spec_id: SPEC.canonical_json()}, range(seeds))
    return [numbers[SPEC.spec_id, seed] for seed in range(seeds)]


def epoch(number: int, top1: float = 50.0) -> dict[str, float]:
    return {
        "epoch": number,
        "lr": 0.1,
        "train_loss": 1.0,
        "train_top1": 50.0,
        "test_loss": 1.0,
        "test_top1": top1,
        "seconds": 2.0,
    }


def test_a_spec_and_seed_happen_once(database: Database) -> None:
    first = ensure(database, seeds=2)
    assert ensure(database, seeds=3)[:2] == first
    assert [run.seed for run in all_runs(database)] == [0, 1, 2]
    assert len({run.uid for run in all_runs(database)}) == 3


def test_from_pending_to_finished(database: Database) -> None:
    (run,) = ensure(database)
    assert all_runs(database)[0].state is State.PENDING
    attempt = writer.start(database, run, "me", PROVENANCE)
    assert (all_runs(database)[0].state, all_runs(database)[0].owner) == (State.RUNNING, "me")
    writer.record_epoch(database, run, epoch(1, 70.0))
    writer.record_epoch(database, run, epoch(2, 60.0))
    writer.end(database, run, attempt, State.FINISHED, wall_seconds=3.5, peak_memory_bytes=7)
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
    attempt = writer.start(database, run, "me", PROVENANCE)
    writer.end(database, run, attempt, state, wall_seconds=1.0, peak_memory_bytes=1)
    with pytest.raises(writer.AlreadyDoneError):
        writer.start(database, run, "me again", PROVENANCE)


@pytest.mark.parametrize("state", [State.FAILED, State.INTERRUPTED])
def test_others_are_and_keep_their_attempts(database: Database, state: State) -> None:
    (run,) = ensure(database)
    attempt = writer.start(database, run, "me", PROVENANCE)
    writer.end(database, run, attempt, state, reason="x", wall_seconds=1.0, peak_memory_bytes=1)
    assert all_runs(database)[0].reason == "x"
    writer.start(database, run, "me again", PROVENANCE)
    detail = run_detail(database, run)
    assert len(detail.provenance) == 2
    assert detail.summary.reason is None


def test_epochs_follow_the_checkpoint(database: Database) -> None:
    (run,) = ensure(database)
    assert writer.align_epochs(database, run, [epoch(1), epoch(2)]) == 0
    assert all_runs(database)[0].epochs == 2
    assert writer.align_epochs(database, run, [epoch(1), epoch(2), epoch(3)]) == 0
    assert all_runs(database)[0].epochs == 3
    assert writer.align_epochs(database, run, [epoch(1)]) == 2
    assert [row["epoch"] for row in run_detail(database, run).epochs] == [1]


def test_an_epoch_is_never_overwritten(database: Database) -> None:
    (run,) = ensure(database)
    writer.record_epoch(database, run, epoch(1, 70.0))
    with pytest.raises(DatabaseError):
        writer.record_epoch(database, run, epoch(1, 80.0))
    assert all_runs(database)[0].best_top1 == 70.0


def test_a_dead_worker_fails_only_its_own_run(database: Database) -> None:
    (run,) = ensure(database)
    writer.start(database, run, "me", PROVENANCE)
    writer.record_failure(database, run, "somebody else", "killed")
    assert all_runs(database)[0].state is State.RUNNING
    writer.record_failure(database, run, "me", "killed")
    assert (all_runs(database)[0].state, all_runs(database)[0].reason) == (State.FAILED, "killed")
    attempt = writer.start(database, run, "me", PROVENANCE)
    writer.end(database, run, attempt, State.FINISHED, wall_seconds=1.0, peak_memory_bytes=1)
    writer.record_failure(database, run, "me", "killed")
    assert all_runs(database)[0].state is State.FINISHED


def test_a_failure_before_the_start_is_recorded_too(database: Database) -> None:
    (run,) = ensure(database)
    writer.record_failure(database, run, "me", "no data")
    assert (all_runs(database)[0].state, all_runs(database)[0].reason) == (State.FAILED, "no data")


def test_the_database_itself_refuses_what_makes_no_sense(database: Database) -> None:
    ensure(database)
    for statement in (
        "update runs set state = 'unheard of'",
        "update runs set seed = -1",
        "insert into epochs values (99, 1, 0, 0, 0, 0, 0, 0)",
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
