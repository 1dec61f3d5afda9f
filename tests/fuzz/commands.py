"""Commands run within this process: a hundred of them in the time of one process of its own."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from dia_repro.cli import main
from dia_repro.reports import drawing
from tests.helpers import clean_environment

HANGS_AFTER_SECONDS = 60


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it printed."""

    code: int
    stdout: str
    stderr: str

    @property
    def complaints(self) -> list[str]:
        """Lines that say what is wrong."""
        return [line for line in self.stderr.splitlines() if line.startswith("dia-repro: ")]


def run_command(
    *arguments: str, cwd: Path, program: typer.Typer | None = None, **environment: str
) -> Outcome:
    """A command as `dia-repro` runs it, but for the process; what it raises comes out of here."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["dia-repro", *arguments])
        patch.chdir(cwd)
        for name in set(os.environ) - set(clean_environment()):
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(sys, "stdin", io.StringIO())
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        stack.enter_context(no_longer_than(HANGS_AFTER_SECONDS, arguments))
        code = main._run(program or main.app)
    texts = []
    for stream in (out, err):
        stream.flush()
        buffer: Any = stream.buffer
        texts.append(buffer.getvalue().decode())
    return Outcome(code, *texts)


def draw_here(patch: pytest.MonkeyPatch) -> None:
    """Have this process draw: new ones import for seconds what is here."""
    patch.setattr(drawing, "MOST_PROCESSES", 0)


@contextlib.contextmanager
def no_longer_than(seconds: int, what: object) -> Iterator[None]:
    def hangs(*_: object) -> None:
        raise AssertionError(f"{what} does not end")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def check_outcome(outcome: Outcome, about: object = None) -> None:
    """What holds of every command, whatever it is given."""
    assert outcome.code in {0, 1, 2, 3}, about
    assert "Traceback" not in outcome.stdout + outcome.stderr, about
    assert len(outcome.complaints) <= 1, about
    if outcome.code == 2:
        assert outcome.complaints or "Usage: " in outcome.stdout, (about, outcome)


def files_in(folder: Path) -> Mapping[Path, bytes]:
    """Everything that is there, and its content."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
