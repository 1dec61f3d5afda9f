"""What is printed while runs train."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from dia_repro.cli import progress as module
from dia_repro.cli.progress import RunProgress
from dia_repro.execution.messages import Ended, Outcome, Progress


def test_no_time_is_left_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares of many runs add up to a little more than 1."""
    written = io.StringIO()
    monkeypatch.setattr(module, "stderr", lambda: Console(file=written, width=200))
    monkeypatch.setattr(module, "SECONDS_BEFORE_ESTIMATE", -1)
    jobs = [
        SimpleNamespace(run_id=number, label=f"run {number}", weight=0.1 + number / 7)
        for number in range(49)
    ]
    with RunProgress(jobs) as progress:  # type: ignore[arg-type]
        for job in jobs:
            for message in (Progress(0, 1, 0, 1, None), Progress(1, 1, 0, 1, 50.0)):
                progress.on_message(job, message)  # type: ignore[arg-type]
        assert progress.share > 1, "the case that is tested"
        for job in jobs:
            progress.on_message(job, Ended(Outcome.FINISHED))  # type: ignore[arg-type]
    text = written.getvalue()
    assert "about 0 s left" in text
    assert "-0" not in text
    assert progress._overall() == "49 of 49 runs done"
