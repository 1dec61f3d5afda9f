"""A run without heartbeats goes on elsewhere; its first process writes nothing when it wakes up."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from dia_repro.execution import leasing
from dia_repro.execution.attempt import Attempt
from dia_repro.execution.messages import Message, Notice, Outcome
from dia_repro.results.schema import State
from dia_repro.training.store import Store
from tests.execution.test_local import details, details_running, figures, start, wait_until
from tests.execution.tiny_runs import make_jobs
from tests.helpers import tiny_spec

EPOCHS = 4


@pytest.mark.slow
def test_stopped_trainer_loses_its_run_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another folder of checkpoints stands for another machine: there is no lock to be seen."""
    first = start(tmp_path, epochs=EPOCHS)
    wait_until(lambda: details_running(tmp_path))
    os.killpg(first.pid, signal.SIGSTOP)
    try:
        monkeypatch.setattr(leasing, "LEASE_SECONDS", 2.0)
        database, (job,) = make_jobs(tmp_path, [tiny_spec(epochs=EPOCHS)], 1)
        job = replace(job, checkpoints=Store(tmp_path / "elsewhere"))
        said: list[Message] = []
        ended = Attempt(job, said.append, lambda: False).run()
    finally:
        os.killpg(first.pid, signal.SIGCONT)
    output, _ = first.communicate(timeout=60)
    notices = [message.text for message in said if isinstance(message, Notice)]
    assert ended.outcome is Outcome.FINISHED
    assert any("gave none and is taken for dead" in text for text in notices)
    assert "busy" in output
    (detail,) = details(tmp_path)
    assert detail.summary.state is State.FINISHED
    assert [row["epoch"] for row in detail.epochs] == list(range(1, EPOCHS + 1))
    assert len(detail.provenance) == 2
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    other, (again,) = make_jobs(undisturbed, [tiny_spec(epochs=EPOCHS)], 1)
    assert Attempt(again, said.append, lambda: False).run().outcome is Outcome.FINISHED
    assert figures(detail) == figures(details(undisturbed)[0])
    database.close()
    other.close()
