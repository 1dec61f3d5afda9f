"""DataFrames of the database: nan is a result, missing is missing."""

from __future__ import annotations

from datetime import UTC, datetime
from math import inf, nan

import pandas as pd
import pytest

from dia_repro.results import frames, writer
from dia_repro.results.database import Database
from dia_repro.results.frames import DTYPES, EPOCHS, RUNS, Column, Table, frame, read
from dia_repro.results.schema import RunRow
from tests.results.rows import SPEC, begin, ensure, epoch

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901)
KINDS = Table("kinds", "One of each.", tuple(Column(kind, kind, ".") for kind in DTYPES))


def test_values_come_back_and_missing_is_not_nan() -> None:
    rows = [
        (2**40, nan, "a", True, MOMENT),
        (None, None, None, None, None),
        (1, inf, "", False, MOMENT),
    ]
    found = frame(KINDS, rows)
    assert {name: str(dtype) for name, dtype in found.dtypes.items()} == DTYPES
    assert found["integer"].tolist() == [2**40, pd.NA, 1]
    assert repr(found["number"].tolist()) == "[nan, <NA>, inf]"
    assert found["number"].isna().tolist() == [False, True, False]
    assert found["time"][0].to_pydatetime() == MOMENT.replace(tzinfo=UTC)
    assert found.isna().sum().tolist() == [1] * 5


def test_a_table_without_rows_has_its_columns() -> None:
    found = frame(KINDS, [])
    assert (len(found), {name: str(dtype) for name, dtype in found.dtypes.items()}) == (0, DTYPES)


@pytest.mark.parametrize("batch", [1, 20_000])
def test_rows_are_read_in_order(
    batch: int, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "BATCH", batch)
    first, second = ensure(database, seeds=2)
    lease = begin(database, first)
    for number, top1 in enumerate((10.0, nan, 30.0), start=1):
        writer.record_epoch(database, lease, epoch(number, top1))
    with database.reading() as session:
        runs, epochs = read(session, RUNS), read(session, EPOCHS)
        (record,) = frames.records_of(session, RUNS, RunRow.id == second)
        assert len(frames.records_of(session, RUNS, last=1)) == 1
    assert runs["run"].tolist() == [first, second]
    assert (runs["spec_id"] == SPEC.spec_id).all()
    assert repr(runs["best_top1"].tolist()) == "[30.0, <NA>]"
    assert repr(epochs["test_top1"].tolist()) == "[10.0, nan, 30.0]"
    assert (record["state"], record["epochs_done"], record["best_top1"]) == ("pending", 0, None)


def test_tables_need_no_docstrings(monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -OO` keeps none."""
    monkeypatch.setattr(RunRow, "__doc__", None)
    assert frames._table("runs", RunRow).meaning == ""
