"""Standard output that does not block, as some CI runners and ssh hand it to a command."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers import clean_environment

PIPE_BYTES = 4096
WORDS = ["run", "--help"]


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="needs Linux's small pipes")
@pytest.mark.parametrize("options", [[], ["-u"]], ids=["buffered", "unbuffered"])
def test_slow_reader_of_nonblocking_output_gets_all_of_it(
    options: list[str], tmp_path: Path
) -> None:
    command = [sys.executable, *options, "-m", "dia_repro", *WORDS]
    whole = subprocess.run(
        command, capture_output=True, check=True, cwd=tmp_path, env=clean_environment()
    ).stdout
    assert len(whole) > PIPE_BYTES
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    os.set_blocking(theirs, False)
    with subprocess.Popen(command, stdout=theirs, cwd=tmp_path, env=clean_environment()) as process:
        os.close(theirs)
        time.sleep(3)  # the pipe is full
        with os.fdopen(ours, "rb") as reader:
            found = reader.read()
    assert found == whole
    assert process.returncode == 0
