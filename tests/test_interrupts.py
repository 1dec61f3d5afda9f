"""A signal at any moment of a command ends it with its code and a word, and loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dia_repro
from tests.helpers import clean_environment

ROOT = Path(dia_repro.__file__).parents[1]
# Imports a package whose code swallows what a signal raises, as code of C does, and then trains.
SWALLOWED = """
import os, signal, sys
from dia_repro import interrupts
from dia_repro.execution.endings import Signals
interrupts.install()
try:
    os.kill(os.getpid(), signal.SIGINT)
except interrupts.Interrupted:
    pass
with Signals() as signals:
    print(signals.stop, signals.kill)
"""
# A command in which that happens at its start; with `broken` it breaks what was being imported.
LOST = """
import os, signal, sys
from dia_repro import interrupts
interrupts.install()
from dia_repro.cli import main
try:
    os.kill(os.getpid(), signal.SIGTERM)
except interrupts.Interrupted:
    pass
def broken():
    raise ImportError("cannot load module more than once per process")
if {broken}:
    main.command = broken
sys.argv = ["dia-repro", "show", "table5"]
main.main()
"""
# Starts the process that workers are forked from, and is interrupted as a terminal does it.
STARTING = """
import os, signal, time
from dia_repro import interrupts
from dia_repro.execution import forkserver
interrupts.install()
try:
    forkserver.start()
    time.sleep(0.1)
    os.killpg(0, signal.SIGINT)
    os.killpg(0, signal.SIGHUP)
except interrupts.Interrupted:
    pass
interrupts.ignore()
process = forkserver.CONTEXT.Process(target=print, args=("worked",))
process.start()
process.join()
sleeper = forkserver.CONTEXT.Process(target=time.sleep, args=(60,))
sleeper.start()
sleeper.terminate()
sleeper.join()
print(process.exitcode, sleeper.exitcode)
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=60,
        check=False,
    )


def test_a_signal_that_was_swallowed_still_stops_runs() -> None:
    assert python(SWALLOWED).stdout == "True False\n"


@pytest.mark.parametrize("broken", [False, True])
def test_a_signal_that_was_swallowed_still_ends_a_command(broken: bool) -> None:
    done = python(LOST.format(broken=broken))
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.splitlines()[-1] == "dia-repro: interrupted"


def test_a_signal_that_comes_as_another_error_still_ends_a_command() -> None:
    """Python 3.11 wraps any exception of `__set_name__`, which dataclasses have."""
    done = python(
        "import dataclasses, os, signal, sys\n"
        "def sent(self, owner, name):\n"
        "    if name == 'protocol':\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "dataclasses.Field.__set_name__ = sent\n"
        "sys.argv = ['dia-repro', '--version']\n"
        "from dia_repro.__main__ import main\n"
        "main()\n"
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "dia-repro: interrupted\n"


def test_workers_can_be_started_after_a_signal_in_their_servers_start() -> None:
    done = python(STARTING)
    assert (done.stdout, done.stderr) == ("worked\n0 -15\n", "")


def test_ignored_signals_stay_ignored() -> None:
    """As under `nohup`, whose runs outlive the terminal."""
    code = (
        "import os, signal\n"
        "from dia_repro import interrupts\n"
        "from dia_repro.execution.endings import Signals\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "interrupts.install()\n"
        "os.kill(os.getpid(), signal.SIGHUP)\n"
        "with Signals() as signals:\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    print(signals.stop)\n"
    )
    assert python(code).stdout == "False\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "seconds"), [(signal.SIGINT, 0.5), (signal.SIGINT, 2.5), (signal.SIGHUP, 3.5)]
)
def test_a_signal_ends_a_command_with_a_message(
    number: int, seconds: float, tmp_path: Path
) -> None:
    command = ("run", "table5", "--protocol", "demo", "--epochs", "1", "--only", "SENet ResNet83")
    process = subprocess.Popen(
        [sys.executable, "-m", "dia_repro", *command],
        cwd=tmp_path,
        env=clean_environment(PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    time.sleep(seconds)
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert "nterrupted" in output
