"""All commands and their options as Markdown, from the functions that they are.

`python -m dia_repro.cli.reference > docs/commands.md` writes the reference anew.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from dia_repro.cli.main import app

HEAD = """# Commands

All of `dia-repro`'s commands, as `--help` has them. This page is written by
`python -m dia_repro.cli.reference > docs/commands.md`; a test compares it with the commands.
"""


def reference() -> str:
    """The page."""
    parts = [HEAD]
    for name, command in commands(app, "dia-repro"):
        parts.append("\n".join(_command(name, command)))
    return "\n".join(parts)


def commands(group: typer.Typer, prefix: str) -> Iterator[tuple[str, Callable[..., object]]]:
    """Each command with its whole name, in the order of the help; groups come last."""
    for one in group.registered_commands:
        if one.callback is not None and not one.hidden:
            name = one.name or one.callback.__name__.replace("_", "-")
            yield f"{prefix} {name}", one.callback
    for part in group.registered_groups:
        if part.typer_instance is not None:
            yield from commands(part.typer_instance, f"{prefix} {part.name}")


def _command(name: str, command: Callable[..., object]) -> Iterator[str]:
    arguments, options = [], []
    signature, hints = inspect.signature(command), get_type_hints(command, include_extras=True)
    for parameter in signature.parameters.values():
        kind, info = _annotation(hints[parameter.name])
        if isinstance(info, ArgumentInfo):
            arguments.append((info.metavar or parameter.name.upper(), kind, parameter, info))
        elif isinstance(info, OptionInfo):
            options.append((_flags(info), kind, parameter, info))
    text, _, example = inspect.cleandoc(command.__doc__ or "").partition("Example: ")
    usage = [_usage(*argument[:3]) for argument in arguments]
    yield f"## {name}\n"
    yield f"```\n{' '.join([name, *(['[OPTIONS]'] if options else []), *usage])}\n```\n"
    yield f"{text.strip()}\n"
    if example:
        yield f"Example: `{' '.join(example.split())}`\n"
    if arguments or options:
        yield "| | | |\n| --- | --- | --- |"
        for label, kind, _, info in arguments:
            yield _row(f"`{label}`", kind, info.help or "")
        for flags, kind, parameter, info in options:
            yield _row(flags, kind, _explained(info, parameter.default))
        yield ""


def _flags(info: OptionInfo) -> str:
    # Within Annotated, typer keeps the first of the names in the place of a default.
    names = (info.default, *(info.param_decls or ()))
    return ", ".join(f"`{name}`" for name in names if isinstance(name, str))


def _usage(label: str, kind: Any, parameter: inspect.Parameter) -> str:
    several = "..." if get_origin(_plain(kind)) is list else ""
    required = parameter.default is inspect.Parameter.empty
    return f"{label}{several}" if required else f"[{label}{several}]"


def _row(label: str, kind: Any, text: str) -> str:
    cells = (label, _kind(kind), text)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _annotation(hint: Any) -> tuple[Any, object]:
    """The type of a parameter, and what typer is told of it."""
    if get_origin(hint) is not Annotated:
        return hint, None
    kind, *told = get_args(hint)
    return kind, next((one for one in told if isinstance(one, ArgumentInfo | OptionInfo)), None)


def _plain(kind: Any) -> Any:
    """A type without its None."""
    if get_origin(kind) in {Union, UnionType}:
        return next(one for one in get_args(kind) if one is not NoneType)
    return kind


def _kind(kind: Any) -> str:
    plain = _plain(kind)
    if get_origin(plain) is list:
        return f"{_kind(get_args(plain)[0])}, several"
    if isinstance(plain, type) and issubclass(plain, Enum):
        return " or ".join(f"`{one.value}`" for one in plain)
    names = {bool: "flag", int: "whole number", float: "number", str: "text"}
    return names.get(plain, "path")


def _explained(info: OptionInfo, default: object) -> str:
    parts = [info.help or ""]
    if info.envvar:
        parts.append(f"Else `{info.envvar}`.")
    limits = [
        f"{word} {limit}"
        for word, limit in (("at least", info.min), ("at most", info.max))
        if limit is not None
    ]
    if limits:
        parts.append(f"{', '.join(limits).capitalize()}.")
    if default not in {None, False, inspect.Parameter.empty, ""}:
        shown = default.value if isinstance(default, Enum) else default
        parts.append(f"Default: `{shown}`.")
    return " ".join(filter(None, parts))


if __name__ == "__main__":
    sys.stdout.write(reference())
