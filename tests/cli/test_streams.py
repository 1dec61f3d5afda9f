"""Standard streams that are closed from the start, or whose reader goes away."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from dia_repro.results.database import open_database
from dia_repro.results.queries import all_runs
from dia_repro.results.schema import State
from tests.helpers import clean_environment, write_folder

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


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
@pytest.mark.parametrize(("words", "code"), [("show table5", 0), ("show nothing", 2)])
def test_closed_streams_change_no_exit_code(
    words: str, code: int, closed: str, tmp_path: Path
) -> None:
    result = shell(f"{COMMAND} {words} {closed}", tmp_path)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("words", ["show table5", "show table5 --format csv", "--help"])
def test_reader_that_has_had_enough_is_no_error(words: str, tmp_path: Path) -> None:
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


@pytest.mark.slow
@pytest.mark.parametrize("log", ["2>&1 | true", "2>/dev/full"])
def test_training_goes_on_without_its_log(log: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", {"train": 8, "val": 4})
    options = "--protocol demo --dataset folder:pets --image-size 8 --epochs 2 --yes"
    result = shell(f"{COMMAND} run table5 {options} --only 'SENet ResNet83' {log}", tmp_path)
    assert result.returncode == 0, result.stderr
    with closing(open_database(str(tmp_path / "runs.db"), create=False)) as database:
        assert [run.state for run in all_runs(database)] == [State.FINISHED]


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [True, pytest.param(False, marks=pytest.mark.exhaustive)])
def test_log_that_nobody_reads_holds_up_no_stop(terminal: bool, tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", {"train": 8, "val": 4})
    options = "--protocol demo --dataset folder:pets --image-size 8 --epochs 9999 --yes"
    ours, theirs = pty.openpty() if terminal else os.pipe()
    with subprocess.Popen(
        [*COMMAND.split(), "run", "table5", *options.split(), "--only", "SENet ResNet83"],
        cwd=tmp_path,
        stderr=theirs,
        env=clean_environment(),
    ) as process:
        text = b""
        while b"top-1" not in text and select.select([ours], [], [], 120)[0]:
            text += os.read(ours, 1024)
        fill(theirs)
        time.sleep(1)  # its next line finds no room
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(timeout=60) == 130
        finally:
            process.kill()
    with closing(open_database(str(tmp_path / "runs.db"), create=False)) as database:
        assert [run.state for run in all_runs(database)] == [State.INTERRUPTED]
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
