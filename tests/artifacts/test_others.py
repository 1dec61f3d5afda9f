"""Results of others, in a database with ours: shown next to ours, and never counted as ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

import dia_repro
from dia_repro.artifacts import ARTIFACTS
from dia_repro.artifacts.selection import Wanted
from dia_repro.claims.evaluate import evaluate_claims
from dia_repro.claims.verdicts import ClaimVerdict, Verdict
from dia_repro.errors import UsageError
from dia_repro.execution.maintenance import folder_of
from dia_repro.experiments.names import Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.rendering.cells import cell_records
from dia_repro.rendering.grid import make_grid
from dia_repro.results.database import Database, open_database
from dia_repro.results.merge import merge
from dia_repro.results.queries import runs_of
from dia_repro.training.store import Store
from tests.artifacts.courses import add

TABLE7 = ARTIFACTS["table7"]
REQUEST = Request(Protocol.DEMO, epochs=1)
WANTED = Wanted(Protocol.DEMO, epochs=1)
SPEC_ID = TABLE7.entries[0].spec(REQUEST).spec_id
LAB = "Lab X"
ROW = ("stage3", "DIANet164", "top1")


def filled(path: Path, without_stage_3: float) -> Database:
    """Seven seeds of each network of Table 7: 80 %, and another accuracy without stage 3's unit."""
    database = open_database(str(path), create=True)
    for entry in TABLE7.entries:
        for seed in range(7):
            top1 = without_stage_3 if entry.row == "stage3" else 80.0
            add(database, entry.spec(REQUEST), seed, [top1 + 0.1 * seed])
    return database


@pytest.fixture
def database(tmp_path: Path) -> Database:
    ours = filled(tmp_path / "runs.db", 70.0)
    merge(ours, [filled(tmp_path / "theirs.db", 90.0)], skip_conflicts=False, origin="Lab X")
    return ours


def matters_most(database: Database) -> ClaimVerdict:
    verdicts = {found.claim: found for found in evaluate_claims(database, WANTED)}
    return verdicts["table7-stage3"]


def test_a_cell_has_our_runs_only(database: Database) -> None:
    ours = TABLE7.compute(database, REQUEST).find(*ROW)
    theirs = TABLE7.compute(database.of("Lab X"), REQUEST).find(*ROW)
    assert ours is not None
    assert theirs is not None
    assert (ours.n, theirs.n) == (7, 7)
    assert ours.ours_mean == pytest.approx(70.3)
    assert theirs.ours_mean == pytest.approx(90.3)
    assert not set(ours.runs.split()) & set(theirs.runs.split())


def test_a_table_has_results_of_others_in_a_note(database: Database) -> None:
    grid = make_grid(TABLE7.compute(database, REQUEST))
    (note,) = [note for note in grid.notes if "Lab X" in note]
    assert note.startswith("Runs of Lab X, not mixed with ours (same experiments;")
    assert "stage3: DIANet164 90.30±0.22 (7)" in note
    assert "Lab X" not in grid.title


def test_data_that_are_not_ours_are_named(database: Database) -> None:
    with database.writing() as session:
        values = (
            "set data_sha256 = 'other' where run_id in (select id from runs where origin != '')"
        )
        session.execute(text(f"update provenance {values}"))
    grid = make_grid(TABLE7.compute(database, REQUEST))
    assert [note for note in grid.notes if "(same experiments, but on other data;" in note]


def test_records_say_whose_they_are(database: Database) -> None:
    for origin, of_origin in (("", database), (LAB, database.of(LAB))):
        records = cell_records(TABLE7.compute(of_origin, REQUEST))
        assert {record["origin"] for record in records} == {origin}


def test_the_folder_of_our_weights_is_never_that_of_others(
    database: Database, tmp_path: Path
) -> None:
    """A foreign database may give a run the first digits of one of ours."""
    ours, theirs = (runs_of(known, [SPEC_ID])[SPEC_ID][0] for known in (database, database.of(LAB)))
    same = replace(theirs, uid=ours.uid[:8] + "0" * 24)
    assert (same.spec_id, same.seed) == (ours.spec_id, ours.seed)
    store = Store(tmp_path)
    assert folder_of(store, same).path != folder_of(store, ours).path


def test_a_table_of_others_results_says_whose_they_are(database: Database) -> None:
    grid = make_grid(TABLE7.compute(database.of("Lab X"), REQUEST))
    assert grid.title.endswith("(runs of Lab X)")
    assert [note for note in grid.notes if note.startswith("Runs of Lab X: digits")]
    assert not [note for note in grid.notes if "not mixed" in note]


def test_claims_are_judged_by_our_results_or_by_those_of_others(database: Database) -> None:
    ours, theirs = matters_most(database), matters_most(database.of("Lab X"))
    assert (ours.verdict, theirs.verdict) == (Verdict.SUPPORTED, Verdict.REFUTED)
    assert "Lab X" not in ours.conditions
    assert theirs.conditions.endswith("runs of Lab X")


def test_the_api_reads_our_results_or_those_of_others(database: Database, tmp_path: Path) -> None:
    chosen = {"protocol": "demo", "epochs": 1}

    def mean_of(origin: str | None) -> float:
        with dia_repro.open_results(tmp_path / "runs.db", origin=origin) as results:
            cells = results.cells("table7", **chosen).set_index(["row", "metric"])
            assert set(results.runs()["origin"]) == {"", "Lab X"}
            assert len(results.runs(origin="Lab X")) == 28
            return float(cells.loc[("stage3", "top1"), "ours_mean"])

    assert mean_of(None) == pytest.approx(70.3)
    assert mean_of("Lab X") == pytest.approx(90.3)
    with pytest.raises(UsageError, match="runs of others are 'Lab X'"):
        dia_repro.open_results(tmp_path / "runs.db", origin="Lab Y")
