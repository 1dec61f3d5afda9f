"""The process that workers are forked from, killed in mid-command and started again."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import dia_repro
from dia_repro.errors import DiaReproError
from dia_repro.execution import forkserver
from tests.helpers import clean_environment

# Trains two runs one after the other; the server is killed when the first one has ended.
SCRIPT = """
import os, signal
from multiprocessing.forkserver import _forkserver as server
from pathlib import Path
from dia_repro.execution.executors.local import LocalExecutor
from dia_repro.execution.messages import Ended, Progress
from dia_repro.execution.machine import Slots
from tests.execution.tiny_runs import make_jobs
from tests.helpers import tiny_spec

known = []
def on_message(_order, message):
    if isinstance(message, Ended) and not known:
        known.append(server._forkserver_pid)
        os.kill(known[0], signal.SIGKILL)
    elif isinstance(message, Progress) and known and server._forkserver_pid not in known:
        known.append(server._forkserver_pid)
        print(Path(f"/proc/{known[1]}/status").read_text())
        print("started safely", "PYTHONSAFEPATH=1" in Path(f"/proc/{known[1]}/environ").read_text())
        os.killpg(0, signal.SIGINT)  # as a terminal sends Ctrl-C to all of them

if __name__ == "__main__":
    database, jobs = make_jobs(Path.cwd(), [tiny_spec(epochs=2)], 2)
    ended = LocalExecutor(database, Slots.on_cpu(1), on_message).run(jobs)
    Path(f"/proc/{known[1]}/status").read_text()  # it is still there
    print(*(one.outcome.value for one in ended.values()))
"""


# Trains on; the server is killed or stopped under two workers, and a third is started.
LIVING = """
import os, signal, sys, time
from multiprocessing.forkserver import _forkserver as server
from pathlib import Path
from dia_repro.execution.executors.local import LocalExecutor
from dia_repro.execution.messages import Progress
from dia_repro.execution.machine import Slots
from tests.execution.tiny_runs import make_jobs
from tests.helpers import tiny_spec

def on_message(job, message):
    if isinstance(message, Progress) and message.epochs:
        seen.add(job.run_id)
        if len(seen) == 2 and not done:
            done.append(os.kill(server._forkserver_pid, {signal}))
            time.sleep(1)
            os.kill(executor._active[0].process.pid, signal.SIGTERM)  # so that there is room
        elif len(seen) == 3 and len(done) == 1:  # once: a second one kills workers
            done.append(os.kill(os.getpid(), signal.SIGTERM))

if __name__ == "__main__":
    seen, done = set(), []
    database, jobs = make_jobs(Path.cwd(), [tiny_spec(epochs=900)], 3)
    executor = LocalExecutor(database, Slots.on_cpu(2), on_message)
    ended = executor.run(jobs)
    print(*(one.outcome.value for one in ended.values()))
    print(*ended.values(), file=sys.stderr)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.exhaustive)]
)
def test_workers_of_a_server_that_is_gone_or_stopped_are_stopped(
    number: signal.Signals, tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text(LIVING.format(signal=int(number)))
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=clean_environment(PYTHONPATH=str(Path(dia_repro.__file__).parent.parent)),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["interrupted"] * 3), done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_a_restarted_server_is_protected_from_signals(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=clean_environment(PYTHONPATH=str(Path(dia_repro.__file__).parent.parent)),
        start_new_session=True,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    masks = dict(line.split(":\t") for line in done.stdout.splitlines() if line.startswith("Sig"))
    assert {signal.SIGINT, signal.SIGHUP} <= signals(masks["SigIgn"])
    assert signal.SIGTERM in signals(masks["SigBlk"])
    assert "started safely True" in done.stdout  # by `forkserver.start`, not by Python itself
    assert done.stdout.endswith("finished interrupted\n")


def signals(mask: str) -> set[int]:
    bits = int(mask, 16)
    return {number for number in range(1, 65) if bits >> (number - 1) & 1}


@pytest.mark.parametrize("error", [EOFError("unexpected EOF"), ConnectionRefusedError()])
def test_server_that_does_not_stay_alive_is_named(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(forkserver, "_started", fail)
    monkeypatch.setattr(forkserver, "KILLED_SECONDS", 0)
    with pytest.raises(DiaReproError, match="no process can be started") as caught:
        forkserver.start_process(print)
    assert caught.value.exit_code == 3
