"""Processes that draw: what becomes of a picture, and of them, whatever happens to them."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from dia_repro.execution.dialogue import Dialogue
from dia_repro.interrupts import Interrupted
from dia_repro.reports import drawing
from tests.helpers import clean_environment

SLEEP = "import time; time.sleep(100)"
STOP = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"


@pytest.mark.parametrize(
    "program",
    [
        "import os; os.kill(os.getpid(), 9)",
        "raise SystemExit(1)",
        f"{STOP}; os._exit(1)",
        "print('no pickle')",
        "import pickle, sys; pickle.dump(5, sys.stdout.buffer)",
    ],
)
def test_this_process_draws_what_another_has_not(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "PROGRAM", program)
    with drawing.drawing(Dialogue()) as pictures:
        pictures.draw(tmp_path / "x", Figure, (1, 1))
        pictures.begin()
        assert pictures.write() == [tmp_path / "x.png"]
    assert (tmp_path / "x.svg").stat().st_size > 100


def test_a_plugin_that_prints_spoils_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (
        "import os",
        "from matplotlib.figure import Figure",
        "os.write(1, b'hello')",
        "print('hello')",
        "def figure(size): return Figure(size)",
    )
    (tmp_path / "printing_plugin.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    plugin = importlib.import_module("printing_plugin")
    with drawing.drawing(Dialogue()) as pictures:
        pictures.draw(tmp_path / "x", plugin.figure, (1, 1))
        pictures.begin()
        monkeypatch.setattr("dia_repro.rendering.images.draw", None)  # the process has drawn it
        assert pictures.write() == [tmp_path / "x.png"]


@pytest.mark.parametrize(("place", "name"), [(subprocess, "Popen"), (tempfile, "TemporaryFile")])
def test_this_process_draws_where_no_other_can_start(
    place: object, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(place, name, refuse)
    with drawing.drawing(Dialogue()) as pictures:
        pictures.draw(tmp_path / "x", Figure, (1, 1))
        pictures.begin()
        assert pictures.write() == [tmp_path / "x.png"]


@pytest.mark.parametrize("program", [SLEEP, f"{STOP}; {SLEEP}"])
def test_an_interruption_ends_the_processes(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted

    def draw() -> None:
        with drawing.drawing(Dialogue()) as pictures:
            pictures.draw(tmp_path / "x", Figure, (1, 1))
            pictures.begin()
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            pictures.write()

    monkeypatch.setattr(drawing, "PROGRAM", program)
    before = signal.signal(signal.SIGALRM, interrupt)
    begun, started, start = time.monotonic(), [], subprocess.Popen

    def note(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(start(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", note)
    try:
        with pytest.raises(Interrupted):
            draw()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - begun < 20
    assert started
    assert all(process.returncode == -signal.SIGKILL for process in started)


def test_a_drawing_process_ends_with_a_killed_parent(tmp_path: Path) -> None:
    """It holds the other end of a pipe for as long as it lives, and draws one picture at most."""
    lines = (
        "import time",
        "from matplotlib.figure import Figure",
        "def slow(seconds):",
        "    time.sleep(seconds)",
        "    return Figure((1, 1))",
    )
    (tmp_path / "slow_plugin.py").write_text("\n".join(lines))
    script = (
        "import os, signal, time\n"
        "from dia_repro.execution.dialogue import Dialogue\n"
        "from dia_repro.reports import drawing\n"
        "from slow_plugin import slow\n"
        "drawing.subprocess.DEVNULL = 1\n"
        "with drawing.drawing(Dialogue()) as pictures:\n"
        "    for number in range(100):\n"
        "        pictures.draw(number, slow, 3)\n"
        "    pictures.begin()\n"
        "    time.sleep({seconds})\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    for seconds in (0, 5):  # before it has imported anything, and while it draws
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", script.format(seconds=seconds)],
            capture_output=True,
            check=False,
            timeout=60,
            env=clean_environment(PYTHONPATH=path),
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert time.monotonic() - begun < 50
