"""Options that several commands share; `with_options` makes typer's of a dataclass's fields."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from typer import Argument, BadParameter, Option

from dia_repro.execution.options import (
    DEFAULT_DATA,
    DEFAULT_DATABASE,
    Device,
    Resources,
    RunFilter,
    Selection,
    brief,
    flag,
)

if TYPE_CHECKING:
    from dia_repro.results.database import Database

FIGURES = Path("figures")  # default folder of pictures

__all__ = ["DEFAULT_DATA", "DEFAULT_DATABASE", "Device", "Resources", "RunFilter", "Selection"]

Command = TypeVar("Command", bound=Callable[..., Any])


class Format(StrEnum):
    """Format of the output: a table for people, or data for programs."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def names_that_begin(incomplete: str) -> list[str]:
    """Return the names of artifacts that begin so, for a shell's completion."""
    from dia_repro.artifacts import ARTIFACTS, CONTROLS, GROUPS

    return [name for name in (*ARTIFACTS, *CONTROLS, *GROUPS) if name.startswith(incomplete)]


Artifacts = Annotated[
    list[str],
    Argument(
        help="Tables or figures of the paper, e.g. table5; all, or controls.",
        autocompletion=names_that_begin,
    ),
]
AnyArtifacts = Annotated[
    list[str] | None,
    Argument(
        help="Tables or figures of the paper, e.g. table5, or controls; by default all.",
        autocompletion=names_that_begin,
    ),
]
DatabaseOption = Annotated[
    str,
    Option(
        "--db", envvar="DIA_REPRO_DB", help="Results database: a SQLite file or a database URL."
    ),
]
OriginOption = Annotated[
    str | None,
    Option(
        "--origin",
        metavar="NAME",
        help="Instead of our runs, those of others whom a merge has named so.",
    ),
]
CheckpointsOption = Annotated[
    str | None,
    Option(
        "--checkpoints",
        envvar="DIA_REPRO_CHECKPOINTS",
        help="Folder of the weights, or a URL such as s3://BUCKET/FOLDER, that all machines "
        "reach; by default a folder next to the database.",
    ),
]
DataFolder = Annotated[
    Path, Option("--data", envvar="DIA_REPRO_DATA", help="Folder that holds downloaded data sets.")
]
DeviceOption = Annotated[
    Device | None, Option("--device", help="By default the GPU if there is one.")
]
FormatOption = Annotated[
    Format, Option("--format", help="table for people; csv or json for programs.")
]
# Fields that some commands take: `Annotated[Selection, COUNTED]`, for example.
EXPLAINED = frozenset(field.name for field in fields(Selection)) - {"only"}
JUDGED = frozenset(field.name for field in fields(Selection)) - {"attention", "seeds"}
COUNTED = frozenset({"only", "attention"})


def with_options(command: Command) -> Command:
    """Give a command the options of each dataclass among its parameters' types.

    A set of names next to the type, in `Annotated`, leaves the other fields at their defaults.
    """
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[type, list[inspect.Parameter]]] = {}
    for parameter in inspect.signature(command).parameters.values():
        hint = hints[parameter.name]
        group, *kept = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        if is_dataclass(group) and isinstance(group, type):
            made = list(_options_of(group, *kept))
            groups[parameter.name] = group, made
            parameters += made
        else:
            keyword = inspect.Parameter.KEYWORD_ONLY
            parameters.append(parameter.replace(annotation=hint, kind=keyword))

    @functools.wraps(command)
    def called(**values: Any) -> Any:
        for name, (group, made) in groups.items():
            given = {made_of.name: values.pop(made_of.name) for made_of in made}
            values[name] = group(**{k: _frozen(v) for k, v in given.items() if v is not None})
        return command(**values)

    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called  # type: ignore[return-value]


def _options_of(group: type, kept: frozenset[str] | None = None) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(group)
    for field in fields(group):
        if kept is not None and field.name not in kept:
            continue
        several = field.default == ()
        kind = list[str] | None if several else hints[field.name]
        metadata = dict(field.metadata)
        if "parser" in metadata:
            metadata["parser"] = _explaining(metadata["parser"])
        yield inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None if several else field.default,
            annotation=Annotated[kind, Option(flag(field.name), **metadata)],
        )


def _explaining(parser: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a parser whose `ValueError` says why: click would only repeat the text."""

    def parsed(text: str) -> Any:
        try:
            return parser(text)
        except ValueError as error:
            raise BadParameter(f"{error}, not {brief(text)}") from error

    return parsed


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def open_results(location: str, *, must_exist: bool = True, origin: str | None = None) -> Database:
    """Return a database to show its results; the default one need not exist yet.

    Args:
        origin: whose runs are read; by default ours.

    Raises:
        NoDatabaseError: the one that was named must exist, and does not.
        UsageError: it has no runs of that origin.
    """
    from dia_repro.results.database import open_database, open_existing

    may_be_absent = location == DEFAULT_DATABASE or not must_exist
    found = open_database(location, create=False) if may_be_absent else open_existing(location)
    return found if origin is None else found.of(origin)
