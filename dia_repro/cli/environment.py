"""The command line of this process, as it is recorded and shown."""

from __future__ import annotations

import shlex
import sys

from dia_repro.errors import displayed


def own_command() -> str:
    """Return the command line of this process without passwords and without its folder.

    Results are published: where the program is installed must not be in them.
    """
    return shlex.join(["dia-repro", *map(shown_argument, sys.argv[1:])])


def shown_argument(argument: str) -> str:
    """Return an argument of the command line without passwords, as `--db URL` or `--db=URL`."""
    name, equals, value = argument.partition("=")
    if name.startswith("--") and "://" not in name:
        return f"{name}{equals}{displayed(value)}"
    return displayed(argument)
