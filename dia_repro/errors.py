"""Errors that a user can act on, with exit codes, and locations without their secrets."""

from __future__ import annotations

import re
import textwrap
from urllib.parse import quote_plus

DONE, RUN_FAILED, WRONG_USAGE, ABSENT, INTERRUPTED = 0, 1, 2, 3, 130


MOST_OF_A_REASON = 300  # characters


class DiaReproError(Exception):
    """Base of every error whose message is meant for the user: one sentence, one line."""

    exit_code = RUN_FAILED

    def __init__(self, message: str = "") -> None:
        # File names need not be UTF-8, and a message is stored in the database.
        super().__init__(message.encode(errors="replace").decode())


class UsageError(DiaReproError):
    """Wrong usage or input: an unknown name, a bad number, a foreign file."""

    exit_code = WRONG_USAGE


class AbsentError(DiaReproError):
    """Something required is missing: data, a GPU, a package, a folder to write to, an answer."""

    exit_code = ABSENT


# Names of query parameters that hold secrets; `keepalives` is none.
SECRET_NAME = r"(?:pass|pwd|secret|token|credential|signature|key(?!word|alive))"  # noqa: S105
# After a `&` or `;`, or the first `?`; each character is looked at a few times, however long.
SECRET_PARAMETER = re.compile(
    r"((?:(?<=[&;])|(?<![^=])[^=&;?]*+\?)(?=[^=&;]*+=)"
    rf"[^=&;]*?{SECRET_NAME}[^=&;]*+=)[^&]*",
    re.IGNORECASE,
)
MASK = "***"


def displayed(location: str) -> str:
    """Return a location, or a text that contains one, without its secrets.

    URLs are read as SQLAlchemy reads them when it connects. What it cannot read, or reads with an
    `@` left over, is masked up to the last `@`.
    """
    if "://" not in location:
        return location
    from sqlalchemy.engine import make_url  # later: `dia-repro --help` does without it
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(location)
    except (ArgumentError, ValueError):
        return _masked(location)
    if url.password is None:
        unclear = url.drivername != "sqlite" and "@" in f"{url.host}{url.database}"
    else:
        unclear = location.count("@") > 1
    if unclear:
        return _masked(location)
    hidden = url.set(query={name: _parameter(name, value) for name, value in url.query.items()})
    hidden = hidden if url.password is None else hidden.set(password=MASK)
    if hidden == url:
        return location
    return hidden.render_as_string(hide_password=False).replace(quote_plus(MASK), MASK)


def displayed_text(text: str) -> str:
    """Return a text, with the locations in it as they may be shown."""
    return re.sub(r"\S+", lambda word: displayed(word[0]), text)


def reason_of(error: BaseException) -> str:
    """Return an error's type and message in a line: some begin with a line that says nothing."""
    said = f"{type(error).__name__}: {error}"
    return textwrap.shorten(said, MOST_OF_A_REASON, placeholder=" …")


def _parameter(name: str, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """Return a query parameter's value, masked if its name or its text speaks of a secret."""
    text = " ".join((name, value) if isinstance(value, str) else (name, *value))
    return MASK if re.search(SECRET_NAME, text, re.IGNORECASE) else value


def _masked(text: str) -> str:
    before, at, after = text.rpartition("@")
    if user := re.search(r"://[^:@]*:", before):
        text = f"{before[: user.end()]}{MASK}{at}{after}"
    return SECRET_PARAMETER.sub(rf"\1{MASK}", text)
