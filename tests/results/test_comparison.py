"""Two runs side by side: what differs, and from which epoch on."""

from __future__ import annotations

from math import nan
from typing import Any

import pytest

from dia_repro.results import writer
from dia_repro.results.comparison import DIFFERENCES, compare_runs
from dia_repro.results.database import Database
from dia_repro.results.leases import take
from dia_repro.results.queries import UnknownRunError
from tests.results.rows import PROVENANCE, SPEC, ensure, epoch


def trained(database: Database, seed: int, top1: list[float], weight_decay: float = 1e-4) -> int:
    recipe = SPEC.recipe.model_copy(update={"weight_decay": weight_decay})
    spec = SPEC.model_copy(update={"recipe": recipe})
    known = {spec.spec_id: spec.canonical_json()}
    run = writer.ensure_runs(database, known, [seed])[spec.spec_id, seed]
    provenance = PROVENANCE | {"host": f"host{seed}"}
    lease = take(database, run, "me", "here", provenance)
    for number, value in enumerate(top1, start=1):
        writer.record_epoch(database, lease, epoch(number, value))
    return run


def differing(database: Database, *runs: int) -> dict[str, dict[str, Any]]:
    found = compare_runs(database, *runs)
    return {record["field"]: record for record in found if record["differs"]}


def test_spec_provenance_and_metrics_that_differ(database: Database) -> None:
    first = trained(database, 0, [50.0, 60.0, 70.0])
    second = trained(database, 1, [50.0, 65.0, 70.0], weight_decay=0.5)
    found = differing(database, first, second)
    times = {"started_at"}
    assert found.keys() - times == {"spec_id", "seed", "weight_decay", "host", "test_top1"}
    assert (found["weight_decay"]["a"], found["weight_decay"]["b"]) == (1e-4, 0.5)
    assert tuple(found["host"]) == DIFFERENCES.names
    host = ["provenance", "host", "host0", "host1", True, None]
    assert list(found["host"].values()) == host
    # The last epochs agree, the second ones do not.
    assert list(found["test_top1"].values()) == ["metrics", "test_top1", 70.0, 70.0, True, 2]
    every = compare_runs(database, first, second)
    assert {"network", "torch", "precision"} <= {
        record["field"] for record in every if not record["differs"]
    }


def test_a_run_is_no_different_from_itself_even_diverged(database: Database) -> None:
    run = trained(database, 0, [50.0, nan])
    assert differing(database, run, run) == {}


def test_a_run_that_never_began_and_a_shorter_one(database: Database) -> None:
    run = trained(database, 0, [50.0, 60.0])
    shorter, pending = trained(database, 1, [50.0]), ensure(database, seeds=3)[2]
    assert differing(database, run, shorter)["test_top1"]["from_epoch"] is None
    assert differing(database, run, shorter)["epochs_done"]["b"] == 1
    assert differing(database, run, pending)["torch"]["b"] is None
    assert differing(database, run, pending)["test_top1"]["b"] is None


def test_a_run_that_is_not_there(database: Database) -> None:
    run = trained(database, 0, [50.0])
    with pytest.raises(UnknownRunError, match="no run 99"):
        compare_runs(database, run, 99)
