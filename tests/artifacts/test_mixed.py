"""A table says in what the runs of one cell differ besides their seed."""

from __future__ import annotations

import pytest

from dia_repro.artifacts import ARTIFACTS
from dia_repro.experiments.names import Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.rendering.grid import make_grid
from dia_repro.results.database import Database
from dia_repro.results.queries import seconds_per_epoch
from dia_repro.results.schema import ProvenanceRow, State
from tests.artifacts.courses import add

TABLE5 = ARTIFACTS["table5"]


def notes(database: Database) -> str:
    value = TABLE5.compute(database, Request(Protocol.DEMO, epochs=1))
    return " ".join(make_grid(value).notes)


@pytest.fixture
def runs(database: Database) -> list[int]:
    """Two seeds of one network, and one of another."""
    first, second, *_ = TABLE5.specs(Request(Protocol.DEMO, epochs=1)).values()
    return [
        add(database, first, 0, [50.0]),
        add(database, first, 1, [51.0]),
        add(database, second, 0, [52.0]),
    ]


def change(database: Database, run: int, **values: object) -> None:
    with database.engine.begin() as connection:
        for column, value in values.items():
            connection.exec_driver_sql(
                f"update provenance set {column} = {_literal(column, value)} where run_id = {run}"
            )


def _literal(column: str, value: object) -> str:
    return str(bool(value)) if column == "git_clean" else f"'{value}'"


def test_runs_of_one_kind_need_no_note(database: Database, runs: list[int]) -> None:
    assert "differ" not in notes(database)


def test_differences_between_cells_are_named_once(database: Database, runs: list[int]) -> None:
    """The table compares them."""
    change(database, runs[2], torch="9.9")
    assert notes(database).count("differ") == 1
    assert "Cells differ in torch (2, 9.9): " in notes(database)


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("git_clean", (1, 0), "checkout (changed, clean)"),
        ("code_sha256", ("b" * 64, "a" * 64), "code (aaaaaaa, bbbbbbb)"),
        ("pillow", ("12.0", "13.0"), "pillow (12.0, 13.0)"),
        ("step", ("eager", "captured"), "execution mode (captured, eager)"),
    ],
)
def test_checkout_and_execution_mode_are_compared(
    column: str, values: tuple[object, object], words: str, database: Database, runs: list[int]
) -> None:
    for run, value in zip(runs, (values[0], None, values[1]), strict=True):
        if value is not None:  # what is not known is no difference
            change(database, run, **{column: value})
    assert f"Cells differ in {words}" in notes(database)
    change(database, runs[1], **{column: values[1]})
    assert f"Runs of one cell differ in {words}" in notes(database)
    assert notes(database).count("differ") == 1


def test_differences_within_a_cell_are_named(database: Database, runs: list[int]) -> None:
    change(database, runs[0], torch="9.8", git_commit="a" * 40)
    change(database, runs[1], torch="9.9", git_commit="b" * 40)
    wanted = "Runs of one cell differ in torch (9.8, 9.9) and commit (aaaaaaa, bbbbbbb)"
    assert wanted in notes(database)


def test_other_numbers_of_threads_are_named(database: Database, runs: list[int]) -> None:
    """Sums of another order have other last digits."""
    change(database, runs[0], threads=10)
    change(database, runs[1], threads=9)
    assert "Runs of one cell differ in threads (9, 10): " in notes(database)


def test_runs_without_a_result_do_not_count(database: Database, runs: list[int]) -> None:
    change(database, runs[1], torch="9.9")
    with database.engine.begin() as connection:
        connection.exec_driver_sql(
            f"update runs set state = '{State.INTERRUPTED}' where id = {runs[1]}"
        )
    assert "differ" not in notes(database)


def test_an_epoch_took_as_long_as_on_the_device_that_trained_it(database: Database) -> None:
    """A run begun on one device and resumed on another."""
    spec = next(iter(TABLE5.specs(Request(Protocol.DEMO, epochs=2)).values()))
    run = add(database, spec, 0, [50.0, 51.0])
    change(database, run, device="slow CPU")
    with database.engine.begin() as connection:
        columns = [column.name for column in ProvenanceRow.__table__.columns if column.name != "id"]
        changed = {"device": "'fast GPU'", "from_epoch": "1"}
        values = ", ".join(changed.get(name, name) for name in columns)
        connection.exec_driver_sql(
            f"insert into provenance ({', '.join(columns)}) select {values} from provenance"
        )
        connection.exec_driver_sql("update epochs set seconds = 1000 where epoch = 1")
        connection.exec_driver_sql("update epochs set seconds = 1 where epoch = 2")
    assert seconds_per_epoch(database, "slow CPU") == {spec.spec_id: 1000}
    assert seconds_per_epoch(database, "fast GPU") == {spec.spec_id: 1}
