"""Databases that never met come together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from dia_repro import interrupts
from dia_repro.errors import UsageError
from dia_repro.results import writer
from dia_repro.results.checks import problems
from dia_repro.results.database import Database, DatabaseError, open_database
from dia_repro.results.merge import MergeError, _Merge, merge
from dia_repro.results.queries import all_runs, analysis_parts, run_detail, runs_of
from dia_repro.results.schema import GRADIENTS_SETTINGS, RunRow, State
from dia_repro.results.upgrade import back_up
from tests.results.rows import ANALYSIS, PART, SPEC, begin, ensure, epoch, gradients


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Database]:
    database = open_database(str(tmp_path / "other.db"), create=True)
    yield database
    database.close()


def train(
    database: Database, epochs: int, state: State, *, top1: float = 50.0, seed: int = 0
) -> int:
    run = ensure(database, seeds=seed + 1)[seed]
    lease = begin(database, run)
    for number in range(1, epochs + 1):
        writer.record_epoch(database, lease, epoch(number, top1 + number))
    if state is not State.RUNNING:
        writer.end(database, lease, state, wall_seconds=1.5, peak_memory_bytes=7, step="eager")
    return run


def contents(database: Database) -> list[object]:
    """All rows, without the numbers that only this database gives them."""
    rows: list[object] = []
    for run in all_runs(database):
        detail = run_detail(database, run.id)
        rows += [(run.uid, run.spec_id, run.seed, run.state, run.reason, run.parameters)]
        rows += [repr(list(row.items())) for row in detail.epochs]
        rows += [repr(list(row.items())) for row in detail.provenance]
        rows += [analysis_parts(database, run.id, ANALYSIS)]
    return rows


def test_missing_runs_are_added_with_all_rows(database: Database, other: Database) -> None:
    train(database, 2, State.FINISHED, seed=1)
    run = train(other, 3, State.FINISHED)
    analysed = run_detail(other, run).summary.uid
    writer.record_part(other, analysed, ANALYSIS, "{}", 4, PART, 2.0)
    merged = merge(database, [other], skip_conflicts=False)
    assert (merged.added, merged.continued) == (0, 1)  # seed 0 was pending
    mine = next(run for run in all_runs(database) if run.seed == 0)
    theirs = all_runs(other)[0]
    assert (mine.uid, mine.state, mine.epochs) == (theirs.uid, theirs.state, 3)
    assert run_detail(database, mine.id).provenance == run_detail(other, theirs.id).provenance
    assert analysis_parts(database, mine.id, ANALYSIS) == {4: PART}


def test_a_second_merge_changes_nothing(database: Database, other: Database) -> None:
    train(other, 3, State.FINISHED)
    train(other, 1, State.DIVERGED, seed=1)
    assert merge(database, [other], skip_conflicts=False).added == 2
    first = contents(database)
    assert first == contents(other)
    again = merge(database, [other], skip_conflicts=False)
    assert (again.added, again.continued, again.known) == (0, 0, 2)
    assert contents(database) == first


def test_a_run_that_got_further_is_continued(
    database: Database, other: Database, tmp_path: Path
) -> None:
    train(other, 2, State.INTERRUPTED)
    merge(database, [other], skip_conflicts=False)
    back_up(database, tmp_path / "elsewhere.db")
    elsewhere = open_database(str(tmp_path / "elsewhere.db"), create=False)
    (run,) = all_runs(elsewhere)
    lease = begin(elsewhere, run.id, "there", "there")
    writer.record_epoch(elsewhere, lease, epoch(3, 90.0))
    writer.end(elsewhere, lease, State.FINISHED, wall_seconds=1.0, peak_memory_bytes=1)
    assert merge(database, [elsewhere], skip_conflicts=False).continued == 1
    assert contents(database) == contents(elsewhere)
    # And the other way round there is nothing to be taken.
    assert merge(elsewhere, [other], skip_conflicts=False).known == 1
    assert all_runs(elsewhere)[0].epochs == 3


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ((3, State.FINISHED, 50.0), (3, State.FINISHED, 60.0)),
        ((1, State.INTERRUPTED, 50.0), (3, State.FINISHED, 60.0)),
        ((3, State.FINISHED, 50.0), (2, State.DIVERGED, 50.0)),
        ((2, State.DIVERGED, 50.0), (3, State.INTERRUPTED, 50.0)),
    ],
)
def test_conflicts_are_listed_and_nothing_is_merged(
    ours: tuple[int, State, float],
    theirs: tuple[int, State, float],
    database: Database,
    other: Database,
) -> None:
    train(database, ours[0], ours[1], top1=ours[2])
    train(other, theirs[0], theirs[1], top1=theirs[2])
    train(other, 3, State.FINISHED, seed=1)
    before = contents(database)
    merged = merge(database, [other], skip_conflicts=False)
    assert [(conflict.seed, conflict.source) for conflict in merged.conflicts] == [(0, other.name)]
    assert contents(database) == before
    assert merge(database, [other], skip_conflicts=True).added == 1
    assert contents(database)[: len(before)] == before


@pytest.mark.parametrize("seed_here", [0, 2])
def test_a_uid_of_another_run_is_a_conflict(
    seed_here: int, database: Database, other: Database
) -> None:
    """Also where the run there would replace one of its own seed here."""
    mine = train(database, 3, State.FINISHED, seed=seed_here + 1)
    train(other, 3, State.FINISHED)
    with other.writing() as session:
        values = {"uid": run_detail(database, mine).summary.uid}
        session.execute(text("update runs set uid = :uid"), values)
    before = contents(database)
    (conflict,) = merge(database, [other], skip_conflicts=True).conflicts
    assert conflict.reason == f"has the uid of run {mine} here, another spec or seed"
    assert contents(database) == before


def test_other_numbers_of_test_images_are_a_conflict(database: Database, other: Database) -> None:
    train(database, 3, State.FINISHED)
    train(other, 3, State.FINISHED, seed=1)
    for place, images in ((database, 400), (other, 500)):
        with place.writing() as session:
            session.execute(text(f"update provenance set test_images = {images}"))
    (conflict,) = merge(database, [other], skip_conflicts=True).conflicts
    assert (conflict.seed, conflict.reason) == (
        1,
        "has 500 test images, the same data have 400 here",
    )


def test_equal_metrics_of_two_trainings_are_no_conflict(
    database: Database, other: Database
) -> None:
    train(database, 3, State.FINISHED)
    train(other, 3, State.FINISHED)
    with other.writing() as session:
        session.execute(text("update epochs set seconds = 99"))
    before = contents(database)
    assert merge(database, [other], skip_conflicts=False).known == 1
    assert contents(database) == before


def test_a_run_under_way_here_is_left_alone(database: Database, other: Database) -> None:
    train(database, 1, State.RUNNING)
    train(other, 3, State.FINISHED)
    (conflict,) = merge(database, [other], skip_conflicts=False).conflicts
    assert conflict.reason == "is being trained here"


def test_a_run_under_way_there_is_interrupted_here(database: Database, other: Database) -> None:
    train(other, 1, State.RUNNING)
    merge(database, [other], skip_conflicts=False)
    assert [(run.state, run.owner) for run in all_runs(database)] == [(State.INTERRUPTED, None)]


def test_a_failure_half_way_leaves_nothing(database: Database, other: Database) -> None:
    train(other, 3, State.FINISHED)
    broken = open_database(other.location, create=False)
    with broken.writing() as session:
        session.execute(text("drop table analyses"))
    with pytest.raises(Exception, match="analyses"):
        merge(database, [broken], skip_conflicts=False)
    assert all_runs(database) == ()


def test_a_database_is_not_merged_into_itself(other: Database, tmp_path: Path) -> None:
    again = open_database(str(tmp_path / "." / "other.db"), create=False)
    with pytest.raises(MergeError):
        merge(other, [again], skip_conflicts=False)


def test_attempts_without_rows_are_not_merged(database: Database, tmp_path: Path) -> None:
    """Or the last of them would be shown as what made the figures."""
    run = train(database, 1, State.INTERRUPTED)
    back_up(database, tmp_path / "copy.db")
    lease = begin(database, run)
    writer.record_epoch(database, lease, epoch(2))
    other = open_database(str(tmp_path / "copy.db"), create=False)
    begin(other, run, "there")  # which has the lock: the owner of the copy is dead
    merged = merge(database, [other], skip_conflicts=False)
    assert (merged.known, merged.conflicts) == (1, [])
    assert len(run_detail(database, run).provenance) == 2
    other.close()


def test_analyses_of_equal_runs_are_taken(database: Database, other: Database) -> None:
    """Two machines have trained the same run; one has analysed it."""
    runs = [train(place, 3, State.FINISHED) for place in (database, other)]
    uid = run_detail(other, runs[1]).summary.uid
    writer.record_part(other, uid, ANALYSIS, "{}", 4, PART, 2.0)
    assert merge(database, [other], skip_conflicts=False).known == 1
    assert analysis_parts(database, runs[0], ANALYSIS) == {4: PART}


def record(database: Database, run: int, parts: dict[int, float]) -> None:
    """Gradients of one stage with these means."""
    uid = run_detail(database, run).summary.uid
    for part, mean in parts.items():
        writer.record_part(database, uid, GRADIENTS_SETTINGS, "{}", part, gradients(mean), 0.0)


def test_gradients_come_with_the_merged_training(database: Database, other: Database) -> None:
    """Ours was stopped in its first epoch, whose start it has recorded already."""
    mine, theirs = train(database, 0, State.INTERRUPTED), train(other, 3, State.FINISHED)
    record(database, mine, {0: 1.0})
    record(other, theirs, {0: 2.0, 1: 3.0})
    assert merge(database, [other], skip_conflicts=False).continued == 1
    found = analysis_parts(database, mine, GRADIENTS_SETTINGS)
    assert found == {0: gradients(2.0), 1: gradients(3.0)}


def test_other_gradients_of_equal_runs_are_a_conflict(database: Database, other: Database) -> None:
    mine, theirs = (train(place, 3, State.FINISHED) for place in (database, other))
    record(database, mine, {0: 1.0})
    record(other, theirs, {0: 2.0, 1: 3.0})
    (conflict,) = merge(database, [other], skip_conflicts=True).conflicts
    assert conflict.reason == "other gradients after 0 epochs"
    assert analysis_parts(database, mine, GRADIENTS_SETTINGS) == {0: gradients(1.0)}


def test_other_results_of_an_analysis_are_not_mixed(database: Database, other: Database) -> None:
    runs = [train(place, 3, State.FINISHED) for place in (database, other)]
    theirs = {
        4: PART.replace("0.5, 0.25", "0.25, 0.5"),
        3: PART.replace("[[0.5, 0.25, 0.25]]", "[[0.5, 0.5]]"),
    }
    for place, run, parts in ((database, runs[0], {4: PART}), (other, runs[1], theirs)):
        uid = run_detail(place, run).summary.uid
        for part, content in parts.items():
            writer.record_part(place, uid, ANALYSIS, "{}", part, content, 2.0)
    (conflict,) = merge(database, [other], skip_conflicts=False).conflicts
    assert f"other results of {ANALYSIS}" in str(conflict)
    assert len(merge(database, [other], skip_conflicts=True).conflicts) == 1
    assert analysis_parts(database, runs[0], ANALYSIS) == {4: PART}


def test_parts_of_one_analysis_from_two_environments_are_not_joined(
    database: Database, other: Database
) -> None:
    ours = PART.replace("[0.5, 0.25, 0.25]", "[1]")  # of target layer 2
    for place, torch, part, content in ((database, "1", 2, ours), (other, "2", 4, PART)):
        uid = run_detail(place, train(place, 3, State.FINISHED)).summary.uid
        circumstances = f'{{"torch": "{torch}"}}'
        writer.record_part(place, uid, ANALYSIS, circumstances, part, content, 2.0)
    assert merge(database, [other], skip_conflicts=False).conflicts == []
    assert analysis_parts(database, 1, ANALYSIS) == {2: ours}


def test_results_of_others_are_kept_next_to_ours(database: Database, other: Database) -> None:
    train(database, 3, State.FINISHED)
    train(other, 3, State.FINISHED, top1=60.0)
    train(other, 2, State.INTERRUPTED, seed=1)
    before = contents(database)
    merged = merge(database, [other], skip_conflicts=False, origin="Lab X")
    assert (merged.added, merged.unfinished, merged.conflicts) == (1, 1, [])
    assert contents(database)[: len(before)] == before
    assert database.origins() == ("Lab X",)
    (ours,) = runs_of(database, [SPEC.spec_id])[SPEC.spec_id]
    (theirs,) = runs_of(database.of("Lab X"), [SPEC.spec_id])[SPEC.spec_id]
    assert (ours.best_top1, theirs.best_top1) == (53.0, 63.0)
    again = merge(database, [other], skip_conflicts=False, origin="Lab X")
    assert (again.added, again.known, again.conflicts) == (0, 1, [])


def test_results_of_others_are_no_reason_not_to_train(database: Database, other: Database) -> None:
    train(other, 3, State.FINISHED)
    merge(database, [other], skip_conflicts=False, origin="Lab X")
    (mine,) = ensure(database)
    assert run_detail(database, mine).summary.state is State.PENDING
    assert train(database, 3, State.FINISHED) == mine
    assert len(runs_of(database, [SPEC.spec_id])[SPEC.spec_id]) == 1


def test_results_of_others_keep_their_name(
    database: Database, other: Database, tmp_path: Path
) -> None:
    train(other, 3, State.FINISHED, top1=60.0)
    merge(database, [other], skip_conflicts=False, origin="Lab X")
    third = open_database(str(tmp_path / "third.db"), create=True)
    train(third, 3, State.FINISHED)
    merge(third, [database], skip_conflicts=False)
    assert third.origins() == ("Lab X",)
    assert [run.best_top1 for run in all_runs(third)] == [53.0, 63.0]


def test_a_run_of_ours_that_comes_back_stays_ours(database: Database, other: Database) -> None:
    train(database, 3, State.FINISHED)
    merge(other, [database], skip_conflicts=False)
    merged = merge(database, [other], skip_conflicts=False, origin="Lab X")
    assert (merged.added, merged.known) == (0, 1)
    assert database.origins() == ()


@pytest.mark.parametrize("named_there", [False, True])
def test_a_run_of_ours_that_others_continued_is_no_longer_ours(
    named_there: bool, database: Database, other: Database
) -> None:
    """They had a copy of our database: the run has our uid."""
    train(database, 1, State.INTERRUPTED)
    merge(other, [database], skip_conflicts=False)
    (theirs,) = all_runs(other)
    lease = begin(other, theirs.id, "there", "there")
    for number in (2, 3):
        writer.record_epoch(other, lease, epoch(number, 99.0))
    writer.end(other, lease, State.FINISHED, wall_seconds=1.0, peak_memory_bytes=1)
    before = contents(database)
    if named_there:
        with other.writing() as session:
            session.execute(text("update runs set origin = 'Lab X'"))
    origin = None if named_there else "Lab X"
    merged = merge(database, [other], skip_conflicts=True, origin=origin)
    assert [conflict.reason for conflict in merged.conflicts] == [
        "is run 1 here, which is ours: it is merged as that, or removed first"
    ]
    assert contents(database) == before


def test_a_run_that_is_here_as_anothers_is_a_conflict(database: Database, other: Database) -> None:
    train(other, 3, State.FINISHED)
    merge(database, [other], skip_conflicts=False, origin="Lab X")
    for origin in (None, "Lab Y"):
        (conflict,) = merge(database, [other], skip_conflicts=True, origin=origin).conflicts
        assert conflict.reason.startswith("is run 1 here, which is of Lab X: ")


@pytest.mark.parametrize(
    "change",
    [
        "update provenance set data_sha256 = 'other'",
        "update provenance set test_images = 5000",
        "update runs set parameters = 7",
    ],
)
def test_other_data_of_others_are_no_conflict_and_stop_no_training(
    change: str, database: Database, other: Database
) -> None:
    train(other, 3, State.FINISHED)
    train(database, 3, State.FINISHED)
    for place in (database, other):
        with place.writing() as session:
            session.execute(text("update runs set parameters = 5"))
    with other.writing() as session:
        session.execute(text(change))
    assert merge(database, [other], skip_conflicts=True).added == 0
    merged = merge(database, [other], skip_conflicts=False, origin="Lab X")
    assert (merged.added, merged.conflicts) == (1, [])
    assert train(database, 3, State.FINISHED, seed=1)
    with database.reading() as session:
        assert list(problems(session)) == []


@pytest.mark.parametrize("name", [" Lab", "a" * 61, "Lab\x1b[2J", "a\nb", "<b>"])
def test_others_are_named_in_plain_text(name: str, database: Database, other: Database) -> None:
    with pytest.raises(MergeError, match="is no name of others"):
        merge(database, [other], skip_conflicts=False, origin=name)
    train(other, 3, State.FINISHED)
    with other.writing() as session:
        session.execute(text("update runs set origin = :name"), {"name": name})
    with pytest.raises(MergeError, match="has the origin"):
        merge(database, [other], skip_conflicts=False)


def test_others_without_a_name_are_not_us(database: Database, other: Database) -> None:
    """As of a script whose variable is not set: `--as "$LAB"`."""
    train(other, 3, State.FINISHED)
    with pytest.raises(MergeError, match="is no name of others"):
        merge(database, [other], skip_conflicts=False, origin="")
    assert all_runs(database) == ()
    with pytest.raises(UsageError, match="has no runs of ''"):
        database.of("")


def test_an_interruption_between_two_runs_leaves_nothing(
    database: Database, other: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its exception may have been lost."""
    train(other, 3, State.FINISHED)
    merge_run = _Merge._merge_run

    def interrupted(self: _Merge, run: RunRow) -> None:
        merge_run(self, run)
        monkeypatch.setattr(interrupts, "_count", 1)

    monkeypatch.setattr(_Merge, "_merge_run", interrupted)
    with pytest.raises(interrupts.Interrupted):
        merge(database, [other], skip_conflicts=False)
    monkeypatch.setattr(interrupts, "_count", 0)
    assert all_runs(database) == ()


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_an_error_names_the_database_in_which_it_came_up(
    side: str, database: Database, other: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(other, 3, State.FINISHED)

    def fails(self: _Merge, _run: RunRow) -> None:
        getattr(self, side).execute(text("select 1 from nowhere"))

    monkeypatch.setattr(_Merge, "_merge_run", fails)
    where = {"ours": database, "theirs": other}[side]
    with pytest.raises(DatabaseError, match=re.escape(f"database {where.name}: ")):
        merge(database, [other], skip_conflicts=False)


def test_others_that_have_no_runs_are_refused(database: Database) -> None:
    with pytest.raises(UsageError, match="no runs of 'Lab X': runs of others are none"):
        database.of("Lab X")
