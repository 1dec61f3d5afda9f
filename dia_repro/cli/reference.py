"""All commands and their options as Markdown, by typer's own generator.

`python -m dia_repro.cli.reference > docs/commands.md` writes the reference again.
"""

from __future__ import annotations

import sys

import typer
from typer.cli import get_docs_for_click

from dia_repro.cli.main import command

HEAD = """<!-- Written by `python -m dia_repro.cli.reference > docs/commands.md`; a test compares it
with the commands. -->

"""


def reference() -> str:
    """Return the page."""
    program = command()
    text = get_docs_for_click(obj=program, ctx=typer.Context(program), name="dia-repro")
    return f"{HEAD}{text.strip()}\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
