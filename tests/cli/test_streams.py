"""Standard streams that are closed from the start, or whose reader goes away."""

from __future__ import annotations

import os
import pty
import resource
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from dia_repro.results.database import open_database
from dia_repro.results.queries import all_runs
from dia_repro.results.schema import State
from tests.helpers import Program, clean_environment, write_folder

COMMAND = f"{sys.executable} -m dia_repro"


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A line of bash, whose exit code is that of the first command of a pipe that fails."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


ALL_CLOSED = ">&- 2>&- <&-"


@pytest.mark.parametrize(
    ("words", "code", "closed"),
    [
        *(("show table5", 0, closed) for closed in (">&-", "2>&-", "<&-", ALL_CLOSED)),
        ("show nothing", 2, "2>&-"),
        ("show nothing", 2, ALL_CLOSED),
        pytest.param("show nothing", 2, ">&-", marks=pytest.mark.exhaustive),
        pytest.param("show nothing", 2, "<&-", marks=pytest.mark.exhaustive),
    ],
)
def test_closed_streams_change_no_exit_code(
    words: str, code: int, closed: str, tmp_path: Path
) -> None:
    result = shell(f"{COMMAND} {words} {closed}", tmp_path)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("words", ["show table5", "show table5 --format csv", "--help"])
def test_reader_that_stops_early_is_no_error(words: str, tmp_path: Path) -> None:
    result = shell(f"{COMMAND} {words} | true", tmp_path)
    assert result.returncode == 0
    assert result.stderr == "" or result.stderr.startswith("No finished runs")


def test_closed_streams_numbers_are_not_given_to_files(tmp_path: Path) -> None:
    script = (
        "import os; from dia_repro.cli.streams import prepare_streams; prepare_streams(); "
        "number = os.open('data', os.O_WRONLY | os.O_CREAT); os.system('echo to stdout'); "
        "os.write(3, b'x') if number == 3 else None"
    )
    shell(f'{sys.executable} -c "{script}" >&- 2>&- <&-', tmp_path)
    assert (tmp_path / "data").read_text() == "x"


def test_full_disk_is_an_error_in_one_line(tmp_path: Path) -> None:
    result = shell(f"{COMMAND} show table5 --format csv > /dev/full", tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines()[1:] == ["dia-repro: No space left on device"]


@pytest.mark.parametrize("number", [1, 2])
def test_closed_terminal_ends_output_and_spares_the_log(number: int, tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from dia_repro.cli.streams import ReaderGoneError, prepare_streams\n"
        "prepare_streams(); pathlib.Path('ready').touch(); sys.stdin.readline()\n"
        f"stream = {{1: sys.stdout, 2: sys.stderr}}[{number}]\n"
        "try: print('x', file=stream, flush=True)\n"
        "except ReaderGoneError: pathlib.Path('gone').touch(); sys.exit(0)\n"
        "pathlib.Path('goes on').touch()\n"
    )
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=theirs if number == 1 else None,
        stderr=theirs if number == 2 else None,
        env=clean_environment(),
    ) as process:
        os.close(theirs)
        while not (tmp_path / "ready").exists():
            assert process.poll() is None
        os.close(ours)
        assert process.stdin
        process.stdin.write(b"\n")
        process.stdin.close()
        process.wait(timeout=60)
    assert {path.name for path in tmp_path.iterdir()} == {
        "ready",
        "gone" if number == 1 else "goes on",
    }


OPTIONS = "--protocol demo --dataset folder:pets --image-size 8 --yes --only 'SENet ResNet83'"


@pytest.mark.exhaustive
def test_training_goes_on_without_a_reader_of_its_log(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", {"train": 8, "val": 4})
    result = shell(f"{COMMAND} run table5 {OPTIONS} --epochs 2 2>&1 | true", tmp_path)
    assert result.returncode == 0, result.stderr
    assert states(tmp_path) == [State.FINISHED]


@pytest.mark.slow
def test_training_goes_on_where_its_log_has_no_room(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", {"train": 8, "val": 4})
    words = shlex.split(f"run table5 {OPTIONS} --epochs 2")
    with Program("dia_repro.cli.main", *words, cwd=tmp_path, log="/dev/full") as process:
        assert process.wait(timeout=300) == 0
    assert states(tmp_path) == [State.FINISHED]


def states(folder: Path) -> list[State]:
    with closing(open_database(str(folder / "runs.db"), create=False)) as database:
        return [run.state for run in all_runs(database)]


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [True, pytest.param(False, marks=pytest.mark.exhaustive)])
def test_run_stops_although_its_log_is_not_read(terminal: bool, tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", {"train": 8, "val": 4})
    words = shlex.split(f"run table5 {OPTIONS} --epochs 9999")
    ours, theirs = pty.openpty() if terminal else os.pipe()
    log = f"/proc/{os.getpid()}/fd/{theirs}"
    with Program("dia_repro.cli.main", *words, cwd=tmp_path, log=log) as process:
        text = b""
        while b"top-1" not in text and select.select([ours], [], [], 120)[0]:
            text += os.read(ours, 1024)
        fill(theirs)
        time.sleep(1)  # its next line finds no room
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(timeout=60) == 130
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
    assert states(tmp_path) == [State.INTERRUPTED]
    os.close(ours)
    os.close(theirs)


def fill(stream: int) -> None:
    """Write until there is no room; the stream itself stays one that blocks."""
    again = os.open(f"/proc/self/fd/{stream}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        while os.write(again, b"." * 512):
            pass
    except BlockingIOError:
        os.close(again)


# Writes more to a stream than has room in it; is asked to stop after a moment.
UNREAD = """
import os, sys, threading
from dia_repro import interrupts
from dia_repro.cli import streams
kind, number, user = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.setuid(user)
streams.STOPPING_SECONDS = 0.2
stream = getattr(streams, kind)(number)
threading.Timer(0.3, interrupts.note_wish).start()
try:
    stream.write(b"a line\\tof the log\\n" * 20_000)
    sys.exit(0)
except streams.ReaderGoneError:
    sys.exit(3)
"""
NOBODY = 65534


def streams(kind: str) -> tuple[int, int]:
    """Both ends of a stream; it is written to at the second."""
    if kind == "terminal":
        return pty.openpty()
    if kind == "pipe":
        return os.pipe()
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


@pytest.mark.parametrize("kind", ["socket", "pipe", "terminal"])
@pytest.mark.parametrize(
    ("stream", "number", "user"),
    [
        ("_Log", None, None),
        ("_Log", 1500, None),  # more than `select` takes
        ("_Log", None, NOBODY),  # another user's, which cannot be opened anew
        ("_Output", None, None),
    ],
)
def test_stream_without_a_reader_ends_at_a_stop(
    kind: str, stream: str, number: int | None, user: int | None
) -> None:
    if user and os.getuid():
        pytest.skip("only root can become another user")
    ours, theirs = streams(kind)
    if number:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit[1] <= number:
            pytest.skip(f"no {number} files may be open here")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(limit[0], number + 1), limit[1]))
        theirs = os.dup2(theirs, number)
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    with subprocess.Popen(
        [sys.executable, "-c", UNREAD, stream, str(theirs), str(user or os.getuid())],
        pass_fds=[theirs],
        env=clean_environment(),
    ) as process:
        try:
            assert process.wait(timeout=10) == (3 if stream == "_Output" else 0)
        finally:
            process.kill()
    assert os.get_blocking(theirs)
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("user", [None, NOBODY])
@pytest.mark.parametrize("kind", ["socket", "pipe", "terminal"])
def test_slow_reader_gets_all_of_a_log(kind: str, user: int | None) -> None:
    if user and os.getuid():
        pytest.skip("only root can become another user")
    ours, theirs = streams(kind)
    script = UNREAD.replace("0.3", "300").replace("sys.exit(0)", "os._exit(0)")
    with subprocess.Popen(
        [sys.executable, "-c", script, "_Log", str(theirs), str(user or os.getuid())],
        pass_fds=[theirs],
        env=clean_environment(),
    ) as process:
        text = b""
        while process.poll() is None or select.select([ours], [], [], 0)[0]:
            if select.select([ours], [], [], 0.05)[0]:
                text += os.read(ours, 65536)
    assert text.count(b"a line") == 20_000
    assert text.replace(b"\r", b"") == b"a line\tof the log\n" * 20_000
    os.close(ours)
    os.close(theirs)
