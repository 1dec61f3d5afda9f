"""Every command's help, and the version."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.commands import run_command
from tests.helpers import cli

COMMANDS = (
    *("run", "plan", "show", "report", "params", "doctor", "explain"),
    *("runs list", "runs show", "runs export", "data fetch", "data check"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str, tmp_path: Path) -> None:
    result = run_command(*command.split(), "--help", cwd=tmp_path)
    assert result.code == 0
    assert f"Example: dia-repro {command}" in result.stdout


def test_version(tmp_path: Path) -> None:
    assert cli("--version", cwd=tmp_path).stdout == "dia-repro 0.1.0\n"
