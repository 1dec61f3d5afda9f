"""Environment of a command: the machine, versions, commit, and the command line."""

from __future__ import annotations

import platform
import shlex
import sys
from typing import TYPE_CHECKING, Any

import dia_repro
from dia_repro.errors import displayed

if TYPE_CHECKING:
    import torch


def environment_of(device: torch.device) -> dict[str, Any]:
    """Device, versions, commit and command of this process."""
    import torch

    from dia_repro.training.provenance import code_state, device_name

    commit, clean = code_state()
    return {
        "device": device_name(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "dia_repro": dia_repro.__version__,
        "git_commit": commit,
        "git_clean": clean,
        "command": own_command(),
    }


def own_command() -> str:
    """The command line of this process, as it would be typed anywhere, without passwords."""
    # Where the program is installed is nobody else's business, and results are published.
    return shlex.join(["dia-repro", *map(shown_argument, sys.argv[1:])])


def shown_argument(argument: str) -> str:
    """Return an argument of the command line without passwords, as `--db URL` or `--db=URL`."""
    name, equals, value = argument.partition("=")
    if name.startswith("--") and "://" not in name:
        return f"{name}{equals}{displayed(value)}"
    return displayed(argument)
