"""Errors that a user can act on. Each knows the exit code it ends a command with."""

from __future__ import annotations

import re

DONE, RUN_FAILED, WRONG_USAGE, ABSENT, INTERRUPTED = 0, 1, 2, 3, 130


class DiaReproError(Exception):
    """Base of every error whose message is meant for the user: one sentence, one line."""

    exit_code = RUN_FAILED

    def __init__(self, message: str = "") -> None:
        # Names of files need not be UTF-8; a message has to go into the database, too.
        super().__init__(message.encode(errors="replace").decode())


class UsageError(DiaReproError):
    """Wrong usage or input: an unknown name, a bad number, a foreign file."""

    exit_code = WRONG_USAGE


class AbsentError(DiaReproError):
    """Something needed is not there: data, a GPU, an optional package, a person to ask."""

    exit_code = ABSENT


def displayed(text: str) -> str:
    """A location, or a text with one in it, as it may be shown and kept: without a password."""
    return re.sub(r"(://[^:/@\s]*):[^/\s]*@", r"\1:***@", text)
