"""Rows that dia-repro does not write are found, and neither merged nor upgraded."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from dia_repro.results import writer
from dia_repro.results.backends import ForeignDatabaseError
from dia_repro.results.checks import database_findings
from dia_repro.results.database import Database, open_database
from dia_repro.results.leases import OtherDataError, take
from dia_repro.results.merge import MergeError, merge
from dia_repro.results.queries import all_runs, run_detail
from dia_repro.results.schema import State
from dia_repro.results.sources import contributing
from dia_repro.results.upgrade import upgrade_database
from tests.results.rows import ANALYSIS, PART, PROVENANCE, begin, ensure, epoch, gradients
from tests.results.test_upgrade import VERSIONS

COPY = (
    "insert into epochs (run_id, epoch, lr, train_loss, train_top1, test_loss, test_top1, seconds)"
)
FALSE = {
    "update epochs set test_top1 = 150 where epoch = 2": "run 1 has test_top1 150 in epoch 2",
    "update epochs set test_top1 = 50.005 where epoch = 2": "which no 10000 images give",
    "update epochs set train_loss = -1 where epoch = 1": "run 1 has train_loss -1 in epoch 1",
    "update epochs set epoch = 9 where epoch = 3": "run 1 has 3 epochs, the last of which is",
    "delete from epochs where epoch = 3": "finished with 2 epochs, not all of its spec's",
    "update specs set json = replace(json, '0.01', '0.02')": "is not what its spec_id says",
    "update specs set json = '{}'": "cannot be read",
    "update runs set uid = '/../docs' where id = 1": "run 1 has the uid '/../docs'",
    "update runs set uid = 'ABC' where id = 1": "run 1 has the uid 'ABC'",
    "update provenance set data_sha256 = '1' where run_id = 2": "trained on 2 different data sets",
    "update epochs set lr = 77 where epoch = 1": "run 1 has lr 77 in epoch 1, not its spec's",
    "update epochs set train_top1 = NAN where epoch = 1": "run 1 has train_top1 nan in epoch 1",
    "update epochs set train_loss = NAN where epoch = 2": "run 1 has train_loss nan in epoch 2",
    "update epochs set train_loss = 1e39 where epoch = 2": "run 1 has train_loss 1e+39 in epoch 2",
    "update runs set parameters = -5 where id = 1": "run 1 has -5 parameters",
    "delete from provenance where run_id = 1": "nothing says what it ran on",
    "update provenance set from_epoch = 1 where run_id = 1": "nothing says what it ran on",
    "update provenance set from_epoch = 9 where run_id = 1": "an attempt that began after 9 epochs",
    "update provenance set from_epoch = -1 where run_id = 1": "an attempt that began after -1",
    "update provenance set threads = -1 where run_id = 1": "run 1 has an attempt with threads -1",
    "update provenance set wall_seconds = -1 where run_id = 2": "with wall_seconds -1",
    "update provenance set peak_memory_bytes = -1 where run_id = 2": "with peak_memory_bytes -1",
    "update provenance set test_images = -5 where run_id = 1": "an attempt with test_images -5",
    "update provenance set test_images = 0 where run_id = 2": "an attempt with test_images 0",
    "update provenance set test_images = run_id + 8": "different numbers of test images: 9, 10",
    "update runs set state = 'diverged' where id = 1": "run 1 is diverged with 3 epochs of 3",
    "update runs set parameters = 7 where id = 1": "count 2 different numbers of parameters",
    f"{COPY} select run_id, 4, lr, 1, 50, 1, 50, 1 from epochs where run_id = 1 and epoch = 3;; "
    "update runs set state = 'interrupted' where id = 1": "run 1 is interrupted with 4 epochs of 3",
    "update runs set origin = 'Lab X', state = 'interrupted' where id = 1": "run 1 is of others "
    "and has no result",
    "update analyses set settings = '[]'": "analysis 1 cannot be read",
    'update analyses set settings = \'{"kind": "magic"}\'': "of an unknown kind, 'magic'",
    "update analysis_parts set content = '{'": "analysis 1 cannot be read",
    "update analysis_parts set content = '[{},{},{}]'": "analysis 1 cannot be read",
    'update analyses set settings = \'{"kind": "gradients"}\';; '
    f"update analysis_parts set content = '{gradients(1.0, stages=1)}'": "part 4 has gradients of "
    "1 stages, the network has 3",
    "update analysis_parts set part = 3": "part 3 of an analysis lacks shares",
    **{
        f"update analyses set settings = '{ANALYSIS.replace(*changed)}'": reason
        for changed, reason in {
            (', "trees": 1', ""): "trees: Field required",
            ('"trained"', '"foo"'): "source: Input should be 'trained', ",
            (": ", ":  "): "settings of forests are not as dia-repro writes them",
            ('"stage": 1', '"stage": 2'): "forests of stage 2, where the network has no DIA unit",
            ('"trees": 1', '"trees": 100'): "have other numbers of trees or images",
            ('"samples": 10', '"samples": 9'): "have other numbers of trees or images",
        }.items()
    },
    **{
        f"update analysis_parts set content = '{PART.replace(*changed)}'": reason
        for changed, reason in {
            ("0.5", "0.6"): "part 4 of an analysis has shares that do not sum up to 1",
            ('"layers": 4', '"layers": 5'): "forests of 5 layers, the network's stages have 4",
            ('"samples": 10', f'"samples": {10**400}'): "samples: ",
        }.items()
    },
    "update runs set state = 'interrupted';; delete from epochs where epoch = 3": "forests of a "
    "run that is not finished",
    "update analyses set circumstances = '[]'": "analysis 1 cannot be read",
    **{
        'update analyses set settings = \'{"kind": "gradients"}\';; '
        "update analysis_parts set part = 0;; "
        f"update analysis_parts set content = '{gradients(1.0).replace(*changed)}'": reason
        for changed, reason in {
            (" 9, 0", " 8, 0"): "a record of gradients has impossible values",
            (" 9, 0", " 10, -1"): "greater than or equal to 0",
            (" 9, 0", f" {10**400}, 0"): "histogram",
            ('"mean": 1.0', '"mean": 1000.0'): "moments that its histogram cannot have",
            ('"variance": 1.0', '"variance": 9.0'): "moments that its histogram cannot have",
            ('"zeros"', '"more": 1, "zeros"'): "Unexpected keyword argument",
            ('"quantiles": []', f'"quantiles": {list(range(7, 0, -1))}'): "impossible values",
            ('"zeros": 0', '"zeros": 9'): "impossible values",
        }.items()
    },
}


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Database]:
    """Two finished runs of a spec."""
    database = open_database(str(tmp_path / "other.db"), create=True)
    for run in ensure(database, seeds=2):
        lease = begin(database, run)
        writer.set_parameters(database, lease, 5)
        for number in (1, 2, 3):
            writer.record_epoch(database, lease, epoch(number))
        writer.end(database, lease, State.FINISHED, wall_seconds=1.0, peak_memory_bytes=1)
    uid = run_detail(database, 1).summary.uid
    writer.record_part(database, uid, ANALYSIS, "{}", 4, PART, 2.0)
    yield database
    database.close()


# Of SQLite alone, which keeps any value in any column.
OF_ANOTHER_TYPE = {
    "update runs set seed = '0/../../../victim' where id = 1": "row 1 of runs has a seed",
    "update runs set seed = 0.5 where id = 1": "row 1 of runs has a seed",
    "update epochs set test_top1 = 'high'": "of epochs has a test_top1",
    "update epochs set seconds = x'00'": "of epochs has a seconds",
    "update provenance set threads = 'many'": "of provenance has a threads",
    f"update provenance set test_images = {2**63 - 1}": "has a test_images of another type or size",
    f"update runs set parameters = {2**31} where id = 1": "of runs has a parameters of another",
    "update provenance set git_clean = 7": "of provenance has a git_clean",
    "update provenance set started_at = 'once'": "of provenance has a started_at",
    "update runs set owner = x'00' where id = 1": "row 1 of runs has a owner",
}


def change(database: Database, statement: str) -> None:
    nan = "'nan'" if database.engine.dialect.name == "sqlite" else "'nan'::float"
    statement = statement.replace("NAN", nan)
    with database.engine.connect() as connection:
        if database.engine.dialect.name == "sqlite":
            connection.exec_driver_sql("pragma foreign_keys = off")
        for part in statement.split(";; "):
            connection.exec_driver_sql(part)
        connection.commit()


@pytest.mark.parametrize("statement", FALSE)
def test_false_rows_are_found_and_not_merged(
    statement: str, database: Database, other: Database
) -> None:
    assert [finding.text for finding in database_findings(other)] == []
    change(other, statement)
    found = [finding.text for finding in database_findings(other) if finding.bad]
    assert any(FALSE[statement] in text for text in found), found
    with pytest.raises(MergeError, match=r"is not sound: .*nothing was merged"):
        merge(database, [other], skip_conflicts=True)
    assert all_runs(database) == ()


@pytest.mark.parametrize("statement", OF_ANOTHER_TYPE)
def test_values_of_another_type_are_found_and_not_merged(
    statement: str, other: Database, tmp_path: Path
) -> None:
    target = open_database(str(tmp_path / "target.db"), create=True)
    change(other, statement)
    found = [finding.text for finding in database_findings(other) if finding.bad]
    assert any(OF_ANOTHER_TYPE[statement] in text for text in found), found
    with pytest.raises(MergeError, match=r"is not sound: .*nothing was merged"):
        merge(target, [other], skip_conflicts=True)
    assert all_runs(target) == ()
    target.close()


def test_a_run_that_diverged_elsewhere_is_a_conflict(database: Database, tmp_path: Path) -> None:
    other = open_database(str(tmp_path / "other.db"), create=True)
    for place, step in ((database, 3), (other, 9)):
        (run,) = ensure(place)
        lease = begin(place, run)
        reason = f"loss nan at step {step} of epoch 1"
        writer.end(
            place,
            lease,
            State.DIVERGED,
            wall_seconds=1.0,
            peak_memory_bytes=1,
            reason=reason,
        )
    merged = merge(database, [other], skip_conflicts=True)
    assert [conflict.reason for conflict in merged.conflicts] == [
        "reason loss nan at step 3 of epoch 1 here, loss nan at step 9 of epoch 1 there"
    ]
    other.close()


def test_runs_on_other_data_are_a_conflict(database: Database, other: Database) -> None:
    """Here and there each database is sound by itself; one cell would mix the two."""
    run = ensure(database, seeds=3)[2]
    lease = take(database, run, "me", "here", {**PROVENANCE, "data_sha256": "1"})
    writer.record_epoch(database, lease, epoch(1))
    merged = merge(database, [other], skip_conflicts=True)
    assert [(conflict.seed, conflict.reason) for conflict in merged.conflicts] == [
        (0, "was trained on other data than runs here"),
        (1, "was trained on other data than runs here"),
    ]
    assert merged.added == merged.continued == 0


def test_an_upgrade_refuses_false_ids(tmp_path: Path) -> None:
    path = Path(shutil.copy(sorted(VERSIONS.glob("*.db"))[0], tmp_path / "old.db"))
    with sqlite3.connect(path) as connection:
        connection.execute("update runs set uid = '/../docs' where id = 1")
    before = path.read_bytes()
    with pytest.raises(ForeignDatabaseError, match=r"run 1 has the uid '/../docs'"):
        upgrade_database(str(path))
    assert path.read_bytes() == before
    with sqlite3.connect(path) as connection:
        connection.execute("update specs set json = '{'")
    with pytest.raises(ForeignDatabaseError, match="cannot be read"):
        upgrade_database(str(path))
    assert list(tmp_path.iterdir()) == [path]  # no copy


OTHER_DATA = {**PROVENANCE, "data_sha256": "1"}


def test_an_attempt_without_a_row_binds_no_data(database: Database) -> None:
    """It ended before an epoch; what counts is what the rows come from."""
    first, second = ensure(database, seeds=2)
    begun = take(database, first, "me", "here", OTHER_DATA)
    writer.end(database, begun, State.FAILED, wall_seconds=1.0, peak_memory_bytes=1)
    writer.record_epoch(database, begin(database, first), epoch(1))
    assert [finding.text for finding in database_findings(database) if finding.bad] == []
    with pytest.raises(OtherDataError):
        take(database, second, "me", "there", OTHER_DATA)


def test_a_divergence_in_the_first_epoch_binds_data(database: Database) -> None:
    first, second = ensure(database, seeds=2)
    lease = take(database, first, "me", "here", OTHER_DATA)
    writer.end(database, lease, State.DIVERGED, wall_seconds=1.0, peak_memory_bytes=1)
    with pytest.raises(OtherDataError):
        begin(database, second)


def test_a_run_in_its_first_epoch_binds_data(database: Database, other: Database) -> None:
    run = ensure(database, seeds=3)[2]
    take(database, run, "me", "here", OTHER_DATA)
    merged = merge(database, [other], skip_conflicts=True)
    assert [conflict.reason for conflict in merged.conflicts] == [
        "was trained on other data than runs here"
    ] * 2


@pytest.mark.parametrize(
    ("begun", "epochs", "diverged", "expected"),
    [
        ([0], 3, False, [0]),
        ([0, 2], 3, False, [1, 0]),
        ([0, 0], 3, False, [1]),  # started again
        ([0, 3], 3, False, [0]),  # had only the end to record
        ([0, 3], 3, True, [1, 0]),
        ([0], 0, False, []),
        ([0], 0, True, [0]),
        ([0, 5, 2], 6, False, [2, 0]),  # from an older checkpoint
        ([], 0, False, []),
    ],
)
def test_rows_come_from_attempts_that_no_later_one_replaced(
    begun: list[int], epochs: int, diverged: bool, expected: list[int]
) -> None:
    assert contributing(begun, epochs, diverged=diverged) == expected


def test_another_number_of_parameters_than_here_is_a_conflict(
    database: Database, other: Database
) -> None:
    """Of the same experiment: each database by itself is sound."""
    lease = begin(database, ensure(database, seeds=3)[2])
    writer.set_parameters(database, lease, 6)
    writer.record_epoch(database, lease, epoch(1))
    merged = merge(database, [other], skip_conflicts=True)
    reason = "has 5 parameters, runs of the same experiment here have 6"
    assert [(conflict.seed, conflict.reason) for conflict in merged.conflicts] == [
        (0, reason),
        (1, reason),
    ]
