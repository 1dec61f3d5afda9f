"""Entry of the command line, and the one place where errors become exit codes."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import traceback
from functools import cache
from typing import Any

import typer
from typer import Option

import dia_repro
from dia_repro import interrupts, plugins
from dia_repro.cli import analyze, data, db, doctor, results, run, runs
from dia_repro.cli.environment import shown_argument
from dia_repro.cli.streams import ReaderGoneError, discard_output, prepare_streams
from dia_repro.errors import (
    ABSENT,
    DONE,
    INTERRUPTED,
    RUN_FAILED,
    WRONG_USAGE,
    DiaReproError,
    UsageError,
    displayed_text,
)
from dia_repro.rendering.escaping import visible
from dia_repro.training.environment import check_settings, forget_settings

# Typer brings its own copy of click, or the real one, depending on its version.
ClickError: type[Exception] = typer.BadParameter.__mro__[2]

LARGEST_TERMINAL = 10_000  # columns or lines
NO_THREAD = "can't start new thread"  # Python's words
# The line in which the loader of libraries, the C library or torch says so.
NO_MEMORY = re.compile(".*(?:failed to map segment|allocate memory|out of memory).*", re.IGNORECASE)
MOST_CHARACTERS = 200  # of an unexpected error's message

app = typer.Typer(
    name="dia-repro",
    help="Reproduces DIANet: Dense-and-Implicit Attention Network (AAAI 2020): trains the "
    "networks behind each table, keeps every result with its provenance, and draws the tables "
    "with the paper's values next to ours.",
    epilog="Start here: dia-repro run table5 --protocol demo",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dia-repro {dia_repro.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Take the options of the program itself; its help is in `app`."""


app.command()(run.run)
app.command()(run.plan)
app.command()(results.show)
app.command()(results.claims)
app.command()(results.report)
app.command()(results.explain)
app.add_typer(runs.app, name="runs")
app.command()(run.params)
app.add_typer(data.app, name="data")
app.add_typer(db.app, name="db")
app.add_typer(analyze.app, name="analyze")
app.command()(doctor.doctor)


@cache
def command(program: typer.Typer = app) -> Any:
    """Return the commands as click has them, read off their functions once in a process."""
    return typer.main.get_command(program)


def main(program: typer.Typer = app) -> None:
    """Run a command line, this package's or another one's, and exit with its code."""
    prepare_streams()
    sys.unraisablehook = _unraisable
    try:
        code = _run(program)
    except Exception as error:  # the last resort: a traceback is for developers
        code = _report_bug(error)
    try:
        sys.stdout.flush()  # here, where an error ends nothing any more
    except (ReaderGoneError, OSError):
        discard_output()
    interrupts.ignore()  # Python would die of one that comes while it ends
    sys.exit(code)


def _unraisable(lost: sys.UnraisableHookArgs) -> None:
    """Print an exception that Python cannot pass on; a wish to stop is counted, and found later."""
    if not isinstance(lost.exc_value, interrupts.Interrupted):
        sys.__unraisablehook__(lost)


def _run(program: typer.Typer = app) -> int:
    _mend_size()
    forget_settings()
    try:
        _check_encoding()
        check_settings()
        code = command(program)(standalone_mode=False)
        sys.stdout.flush()
        interrupts.check()
    except DiaReproError as error:
        return _fail(str(error), error.exit_code)
    except ClickError as error:
        return _fail(_usage_message(error), WRONG_USAGE)
    except (typer.Abort, interrupts.Interrupted, KeyboardInterrupt):
        interrupts.ignore()
        return _fail("interrupted", INTERRUPTED)
    except ReaderGoneError:  # it has had enough, which is no failure
        return DONE
    except (OSError, RuntimeError, ImportError, MemoryError) as error:
        return _fail(*_system_error(error))
    return code if isinstance(code, int) else DONE


def _system_error(error: OSError | RuntimeError | ImportError | MemoryError) -> tuple[str, int]:
    """Return message and exit code where the system refused something, wherever that comes up.

    Raises:
        RuntimeError, ImportError: it is another error.
    """
    if isinstance(error, BlockingIOError) or NO_THREAD in str(error):  # of a fork; of a thread
        return "no more processes or threads can be started: see 'ulimit -u'", ABSENT
    said = NO_MEMORY.search(str(error))
    if said or isinstance(error, MemoryError):
        reason = f" ({said[0].strip()[:MOST_CHARACTERS]})" if said else ""
        words = "there is not enough memory, or too little is allowed: see 'ulimit -v'"
        return f"{words}{reason}", ABSENT
    if not isinstance(error, OSError):
        raise error
    place = f"{error.filename}: " if error.filename else ""  # a full disk, a name too long
    return f"{place}{error.strerror or error}", RUN_FAILED


def _report_bug(error: Exception) -> int:
    """Keep the traceback in a file of the temporary folder, which this user alone can read.

    The bug may be a plugin's.
    """
    if interrupts.count():  # its exception was lost, and broke something
        interrupts.ignore()
        return _fail("interrupted", INTERRUPTED)
    what = f"{type(error).__name__}: {error}"[:MOST_CHARACTERS]
    trace = displayed_text("".join(traceback.format_exception(error)))
    try:
        number, path = tempfile.mkstemp(prefix="dia-repro-", suffix=".txt", text=True)
        with os.fdopen(number, "w", encoding="utf-8", errors="replace") as file:
            file.write(trace)
    except OSError as refused:
        where = f"the traceback cannot be kept ({refused.strerror}); set TMPDIR and run it again"
    else:
        where = f"the traceback is in {path}"
    if line := plugins.line_of(error):
        return _fail(f"{what} in {line}, a plugin; {where}", WRONG_USAGE)
    unless = "unless 'dia-repro db check' finds damage"
    return _fail(f"{what}: this is a bug, please report it, {unless}; {where}", RUN_FAILED)


def _mend_size() -> None:
    """Forget a size of the terminal that rich or typer would stumble over."""
    for name in ("COLUMNS", "LINES", "TERMINAL_WIDTH"):
        size = os.environ.get(name, "")
        if not (size.isascii() and size.isdigit() and 0 < int(size[:9]) < LARGEST_TERMINAL):
            os.environ.pop(name, None)


def _check_encoding() -> None:
    """Refuse bytes that are no text: a run's command line is kept in the database.

    Raises:
        UsageError: an argument or a setting has them.
    """
    settings = [f"{name}={os.environ[name]}" for name in os.environ if name.startswith("DIA_REPRO")]
    for text in (*sys.argv[1:], *settings):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            shown = shown_argument(f"--{text}").removeprefix("--")
            raise UsageError(f"{shown!r} is not in this terminal's encoding") from error


def _usage_message(error: Any) -> str:
    if not error.format_message():  # the help itself has been printed instead
        return ""
    context = getattr(error, "ctx", None)
    hint = f" (see '{context.command_path} --help')" if context else ""
    said = error.format_message().rstrip(".").replace("Value error, ", "")  # pydantic's word
    return f"{said}{hint}"


def _fail(message: str, code: int) -> int:
    if message:
        # Click repeats arguments that it did not expect, which may be URLs.
        print(f"dia-repro: {visible(displayed_text(' '.join(message.split())))}", file=sys.stderr)
    return code
