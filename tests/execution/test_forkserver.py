"""The process that workers are forked from, killed in mid-command and started again."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from dia_repro.errors import DiaReproError
from dia_repro.execution import forkserver
from tests.helpers import Program


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.exhaustive)]
)
def test_workers_of_a_lost_server_are_stopped(number: signal.Signals, tmp_path: Path) -> None:
    with Program("tests.execution.lost_server", str(int(number)), cwd=tmp_path) as process:
        said, errors = process.communicate(timeout=120)
    assert (process.returncode, said.split()) == (0, ["interrupted"] * 3), errors


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_a_restarted_server_is_protected_from_signals(tmp_path: Path) -> None:
    with Program("tests.execution.lost_server", "killed", cwd=tmp_path) as process:
        said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    masks = dict(line.split(":\t") for line in said.splitlines() if line.startswith("Sig"))
    assert {signal.SIGINT, signal.SIGHUP} <= signals(masks["SigIgn"])
    assert signal.SIGTERM in signals(masks["SigBlk"])
    assert "started safely True" in said  # by `forkserver.start`, not by Python itself
    assert said.endswith("finished interrupted\n")


@pytest.mark.slow
def test_a_removed_temporary_folder_ends_nothing(tmp_path: Path) -> None:
    """Cleaners of /tmp remove what is some days old."""
    with Program("tests.execution.lost_server", "folder", cwd=tmp_path) as process:
        said, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    assert said == "first 7, second 7, worker 0\n"


def signals(mask: str) -> set[int]:
    bits = int(mask, 16)
    return {number for number in range(1, 65) if bits >> (number - 1) & 1}


@pytest.mark.parametrize("error", [EOFError("unexpected EOF"), ConnectionRefusedError()])
def test_server_that_does_not_stay_alive_is_named(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(forkserver, "start", fail)
    monkeypatch.setattr(forkserver, "KILLED_SECONDS", 0)
    with pytest.raises(DiaReproError, match="no process can be started") as caught:
        forkserver.start_process(print)
    assert caught.value.exit_code == 3
