"""Options of several commands: typer's for those of `execution.options`, and of files."""

from __future__ import annotations

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
    from dia_repro.training.store import Store

FIGURES = Path("figures")  # default folder of pictures

__all__ = ["DEFAULT_DATA", "DEFAULT_DATABASE", "Device", "Resources", "RunFilter", "Selection"]

Command = TypeVar("Command", bound=Callable[..., Any])


class Format(StrEnum):
    """Table for people, or data for programs."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


Artifacts = Annotated[
    list[str], Argument(help="Tables or figures of the paper, e.g. table5; all, or controls.")
]
AnyArtifacts = Annotated[
    list[str] | None,
    Argument(help="Tables or figures of the paper, e.g. table5, or controls; by default all."),
]
DatabaseOption = Annotated[
    str,
    Option(
        "--db", envvar="DIA_REPRO_DB", help="Results database: a SQLite file or a database URL."
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
# What some commands do without: annotate a parameter `Annotated[Selection, COUNTED]`, for example.
EXPLAINED = frozenset(one.name for one in fields(Selection)) - {"only"}
JUDGED = frozenset(one.name for one in fields(Selection)) - {"attention", "seeds"}
COUNTED = frozenset({"only", "attention"})


def with_options(command: Command) -> Command:
    """Give a command the options of each dataclass among its parameters' types.

    A set of names next to the type, in `Annotated`, leaves the other fields at their defaults.
    """
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[type, list[str]]] = {}
    for parameter in inspect.signature(command).parameters.values():
        hint = hints[parameter.name]
        group, *kept = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        if is_dataclass(group) and isinstance(group, type):
            made = list(_options_of(group, kept[0] if kept else None))
            groups[parameter.name] = group, [option.name for option in made]
            parameters += made
        else:
            keyword = inspect.Parameter.KEYWORD_ONLY
            parameters.append(parameter.replace(annotation=hint, kind=keyword))

    def called(**values: Any) -> Any:
        made = {}
        for name, (group, options) in groups.items():
            given = {option: values.pop(option) for option in options}
            made[name] = group(**{k: _frozen(v) for k, v in given.items() if v is not None})
        return command(**made, **values)

    called.__name__, called.__doc__ = command.__name__, command.__doc__
    called.__module__ = command.__module__
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    return called  # type: ignore[return-value]


def _options_of(group: type, kept: frozenset[str] | None) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(group)
    for one in fields(group):
        if kept is not None and one.name not in kept:
            continue
        several = one.default == ()
        kind = list[str] | None if several else hints[one.name]
        metadata = dict(one.metadata)
        if parser := metadata.pop("parser", None):
            metadata["parser"] = _explaining(parser)
        option = Option(flag(one.name), **metadata)
        yield inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None if several else one.default,
            annotation=Annotated[kind, option],
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


def open_results(location: str, *, must_exist: bool = True) -> Database:
    """Return a database to show its results; the default one need not exist yet.

    Raises:
        NoDatabaseError: the one that was named must exist, and does not.
    """
    from dia_repro.results.database import open_database, open_existing

    if location == DEFAULT_DATABASE or not must_exist:
        return open_database(location, create=False)
    return open_existing(location)


def reachable_store(database: Database, location: str | None) -> Store:
    """Return the store of checkpoints that was named, or the default; seen to answer.

    Raises:
        UsageError: the location is neither a folder nor a URL of a known kind.
        AbsentError: nothing answers there, or a package for it is not installed.
    """
    from dia_repro.execution.maintenance import checkpoint_store
    from dia_repro.training.probing import check_reachable

    store = checkpoint_store(database, location)
    check_reachable(store)
    return store
