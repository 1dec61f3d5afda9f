"""Parts of an analysis are kept with the run that they are of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dia_repro.analysis.stored import Analyst
from dia_repro.execution.maintenance import folder_of
from dia_repro.experiments.names import DataLocation
from dia_repro.results import writer
from dia_repro.results.database import Database
from dia_repro.results.parts import Settings, Source
from dia_repro.results.queries import analysis_circumstances, analysis_parts, run_detail
from dia_repro.training.store import store_at
from tests.results.rows import ensure

SETTINGS = Settings(1, Source.TRAINED, 10, 1, 0, False)
TEXT = SETTINGS.canonical_json()
PART = '{"layers": 2, "samples": 10, "shares": [[1]]}'


def replaced(database: Database) -> tuple[int, str]:
    """The number of a run, which another run has by now, and the first one's uid."""
    (run,) = ensure(database)
    shown = run_detail(database, run).summary
    uid = shown.uid
    writer.record_part(database, uid, TEXT, "{}", 2, PART, 1.0)
    assert writer.remove_run(database, uid, shown.changed_at, ())
    (again,) = ensure(database)
    if database.engine.dialect.name == "sqlite":  # PostgreSQL counts on
        assert again == run
    return again, uid


def test_a_part_does_not_land_in_another_runs_analysis(database: Database) -> None:
    run, uid = replaced(database)
    with pytest.raises(writer.AnalysisGoneError, match="was removed"):
        writer.record_part(database, uid, TEXT, "{}", 2, PART, 1.0)
    assert analysis_parts(database, run, TEXT) == {}


def test_parts_of_two_environments_are_not_mixed(database: Database) -> None:
    (run,) = ensure(database)
    uid = run_detail(database, run).summary.uid
    old, new = ('{"torch": "1", "command": "a"}', '{"torch": "2", "command": "b"}')
    shares = {target: [[1 / (target - 1)] * (target - 1)] for target in (2, 3, 4)}
    parts = {
        target: json.dumps({"layers": 4, "samples": 10, "shares": found})
        for target, found in shares.items()
    }

    def keep(circumstances: str, *targets: int) -> set[int]:
        for target in targets:
            writer.record_part(database, uid, TEXT, circumstances, target, parts[target], 1.0)
        return set(analysis_parts(database, run, TEXT))

    assert keep(old, 4, 3) == {3, 4}
    assert keep(old.replace("a", "c"), 3) == {3, 4}, "another command is no other environment"
    assert keep(new, 2) == {2}
    assert analysis_circumstances(database, run, TEXT) == new
    assert keep(new, 3, 4) == {2, 3, 4}
    assert keep(old, 2) == {2, 3, 4}, "a whole analysis stays"
    assert analysis_circumstances(database, run, TEXT) == new


def test_another_runs_analysis_is_not_taken_for_the_runs(
    database: Database, tmp_path: Path
) -> None:
    """Its number is the one that the run had when the command began."""
    (run,) = ensure(database)
    detail = run_detail(database, run)
    folder = folder_of(store_at(str(tmp_path)), detail.summary)
    analyst = Analyst(database, detail, DataLocation(tmp_path), folder, 1, "{}")
    with database.engine.begin() as connection:  # as after `runs rm` and `run`
        connection.exec_driver_sql(f"update runs set uid = '{'f' * 32}'")
    writer.record_part(database, "f" * 32, TEXT, "{}", 2, PART, 1.0)
    with pytest.raises(writer.AnalysisGoneError):
        analyst.integration(SETTINGS, lambda _done, _of: None)
