"""Runs of a listing, and their order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import update

from dia_repro.api import Results
from dia_repro.artifacts import ARTIFACTS
from dia_repro.artifacts.paper import TABLE5
from dia_repro.artifacts.selection import is_needed
from dia_repro.data import DataChoice, own_images
from dia_repro.errors import UsageError
from dia_repro.execution.listing import list_runs
from dia_repro.execution.options import RunFilter, options_of
from dia_repro.experiments.names import Precision, Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.results.database import Database, open_database
from dia_repro.results.schema import ProvenanceRow, RunRow, State
from tests.artifacts.test_table5 import DEMO, PAPER, add

NOON = datetime(2026, 11, 20, 12)
OWN = DataChoice(own_images("folder:pets", 2, 16, "0" * 64), None)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Database:
    """Runs 1 to 4: two of Table 5, one of Table 8, and one of Table 5 that failed, a day apart."""
    database = open_database(str(tmp_path_factory.mktemp("runs") / "runs.db"), create=True)
    specs, table8 = TABLE5.specs(DEMO), ARTIFACTS["table8"].specs(PAPER)
    add(database, specs["ResNet83", "SENet"], 0, [60.0, 70.0])
    add(database, specs["ResNet164", "DIANet"], 0, [90.0])
    add(database, next(iter(table8.values())), 0, [80.0])
    add(database, specs["ResNet83", "SENet"], 1, [], State.FAILED)
    with database.writing() as session:
        for number in range(1, 5):
            moment = NOON + timedelta(days=number)
            session.execute(update(RunRow).where(RunRow.id == number).values(changed_at=moment))
        second = ProvenanceRow.run_id == 2
        session.execute(update(ProvenanceRow).where(second).values(host="h2"))
    return database


@pytest.mark.parametrize(
    ("wanted", "runs"),
    [
        ({}, [1, 2, 3, 4]),
        ({"state": "failed"}, [4]),
        ({"state": ["failed", "finished"]}, [1, 2, 3, 4]),
        ({"artifact": "table5"}, [1, 2, 4]),
        ({"artifact": ("table5", "table8"), "state": "finished"}, [1, 2, 3]),
        ({"network": "SE resnet83"}, [1, 4]),
        ({"network": "resnet84"}, []),
        ({"dataset": "digits"}, [1, 2, 4]),
        ({"dataset": ["digits", "CIFAR100"]}, [1, 2, 3, 4]),
        ({"host": "h2"}, [2]),
        ({"since": "2026-11-23"}, [3, 4]),
        ({"since": "2026-11-23T12:00:00"}, [3, 4]),
        ({"since": datetime(2026, 11, 23, 13, tzinfo=timezone(timedelta(hours=-1)))}, [4]),
        ({"since": datetime(2026, 11, 23, 12, tzinfo=UTC)}, [3, 4]),
        ({"sort": "best_top1"}, [4, 1, 3, 2]),
        ({"sort": "-best_top1"}, [2, 3, 1, 4]),
        ({"sort": "-run", "artifact": "table5"}, [4, 2, 1]),
    ],
)
def test_runs_by_filter_and_order(
    database: Database, wanted: dict[str, Any], runs: list[int]
) -> None:
    found = list_runs(database, options_of(RunFilter, wanted))
    assert [record["run"] for record in found.records] == runs
    assert found.matching == len(runs)
    assert list(Results(database).runs(**wanted)["run"]) == runs


@pytest.mark.parametrize(
    ("wanted", "runs"),
    [({"artifact": "table5"}, [2, 4]), ({"sort": "best_top1"}, [3, 2]), ({}, [3, 4])],
)
def test_last_runs_are_taken_after_filter_and_sort(
    database: Database, wanted: dict[str, Any], runs: list[int]
) -> None:
    found = list_runs(database, options_of(RunFilter, wanted), last=2)
    assert [record["run"] for record in found.records] == runs
    assert found.matching == (3 if "artifact" in wanted else 4)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"state": "finsihed"}, "choose from pending"),
        ({"artifact": "tabel5"}, "did you mean 'table5'"),
        ({"network": ""}, "needs words"),
        ({"since": "yesterday"}, "since: "),
        ({"since": "0001-01-01T00:00:00+14:00"}, "since: .* in no year"),
        ({"since": "9999-12-31T23:59:59-14:00"}, "since: .* in no year"),
        ({"host": "a\0b"}, "host: no name has"),
        ({"dataset": ["\ud800"]}, "dataset: no name has"),
        ({"sort": "best"}, "did you mean 'best_top1'"),
        ({"colour": "red"}, "no option colour"),
    ],
)
def test_what_no_run_can_be_is_refused(
    database: Database, wanted: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        Results(database).runs(**wanted)


def test_host_filter_accepts_any_name(database: Database) -> None:
    """As a terminal gives what is not UTF-8."""
    assert len(Results(database).runs(host="\udcff")) == 0


@pytest.mark.parametrize(
    "request_",
    [
        PAPER,
        DEMO,
        replace(PAPER, precision=Precision.BF16, precision_asked=True, epochs=7),
        Request(Protocol.PAPER, data=OWN, epochs=3),
    ],
)
def test_an_artifact_needs_its_specs_by_any_request(request_: Request) -> None:
    for spec in TABLE5.specs(request_).values():
        assert is_needed(spec, TABLE5)
    others = list(ARTIFACTS["table8"].specs(request_).values())  # without normalisation
    others += [  # not augmented, which digits are in no artifact
        spec.model_copy(update={"data": spec.data.model_copy(update={"augmentation": "none"})})
        for spec in TABLE5.specs(request_).values()
        if spec.data.augmentation != "none"
    ]
    assert not any(is_needed(spec, TABLE5) for spec in others)


@pytest.mark.parametrize("name", ["of-another-version", "folder:unknown", "of-a-plugin:path"])
def test_experiment_on_unknown_data_is_not_needed(name: str) -> None:
    spec = TABLE5.entries[0].spec(PAPER)
    other = spec.data.model_copy(update={"dataset": name})
    assert not is_needed(spec.model_copy(update={"data": other}), TABLE5)
