"""Plugins: a user's modules, which register attention kinds and artifacts.

They are entry points of an installed distribution (group `dia_repro.plugins`), or files and folders
that `DIA_REPRO_PLUGINS` names, separated by `os.pathsep`. Worker processes load the same plugins
when they meet an unknown kind.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from dia_repro.errors import AbsentError, DiaReproError, UsageError
from dia_repro.interrupts import Interrupted

GROUP, VARIABLE = "dia_repro.plugins", "DIA_REPRO_PLUGINS"
PREFIX = "dia_repro_plugin_"
IGNORED = ("test_", "conftest", "_", ".")  # files of a folder that are no plugins


class AbsentPluginError(AbsentError):
    """`DIA_REPRO_PLUGINS` names a file that does not exist."""


class PluginError(UsageError):
    """A plugin cannot be loaded, or registers what it must not."""


@dataclass(frozen=True)
class Source:
    """File that registered something.

    Attributes:
        name: name of the file, without its folder.
        sha256: hash of its bytes when it was loaded.
    """

    name: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} sha256:{self.sha256}"


_LOADED: set[str] = set()
_LOADING = threading.RLock()  # another thread must not go on before a plugin is loaded
_HASHES: dict[str, str] = {}  # of the files, by the names of their modules


def load_units() -> None:
    """Load every attention unit: the package's, then those of plugins."""
    importlib.import_module("dia_repro.models.attention")
    load()


def load() -> None:
    """Load the plugins that are not loaded yet; a folder's Python files by name.

    Raises:
        AbsentPluginError: a file or folder does not exist.
        PluginError: a plugin cannot be read or imported.
    """
    with _LOADING:
        for point in entry_points(group=GROUP):
            _once(point.value, f"plugin {point.name} ({point.value})", point.load)
        for path in paths():
            for file in _files(path):
                _once(str(file), f"plugin {file}", partial(_load_file, file))


def paths() -> list[Path]:
    """Return the absolute paths that `DIA_REPRO_PLUGINS` names.

    Raises:
        PluginError: a path begins with an unknown user's home.
    """
    named = os.environ.get(VARIABLE, "").split(os.pathsep)
    try:
        return [Path(text).expanduser().absolute() for text in named if text]
    except RuntimeError as error:
        raise PluginError(f"{VARIABLE}={os.environ[VARIABLE]}: {error}") from error


def use(value: str) -> None:
    """Set `DIA_REPRO_PLUGINS` as in the process that gave this one its job."""
    if value:
        os.environ[VARIABLE] = value


def setting() -> str:
    """Return `DIA_REPRO_PLUGINS` with absolute paths, for other processes; "" where it is unset.

    Raises:
        PluginError: a path cannot be named there.
    """
    named = [str(path) for path in paths()]
    if apart := [path for path in named if os.pathsep in path]:
        raise PluginError(
            f"{VARIABLE} cannot name {apart[0]} to other processes, since {os.pathsep!r} separates "
            "paths in it: move the plugin to another folder"
        )
    return os.pathsep.join(named)


def source_of(registered: object) -> Source | None:
    """Return the file that defines a class or function; None where there is none."""
    with suppress(TypeError, OSError):
        path = Path(inspect.getsourcefile(registered) or "")  # type: ignore[arg-type]
        loaded = _HASHES.get(getattr(registered, "__module__", ""))
        return Source(path.name, loaded or hashlib.sha256(path.read_bytes()).hexdigest())
    return None


def line_of(error: BaseException) -> str | None:
    """Return the last line of a plugin that an error passed, as FILE:LINE; None if it passed none.

    Of an installed distribution, only the modules that its entry points name are plugins.
    """
    named = {point.value.partition(":")[0] for point in entry_points(group=GROUP)}
    line = None
    for frame, number in traceback.walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__"))
        if module.startswith(PREFIX) or module in named:
            line = f"{Path(frame.f_code.co_filename).name}:{number}"
    return line


def _files(path: Path) -> list[Path]:
    try:
        if path.is_dir():
            files = [file for file in path.iterdir() if file.suffix == ".py"]
            return sorted(file for file in files if not file.name.startswith(IGNORED))
        if path.exists():
            return [path]
    except OSError as error:
        raise PluginError(f"{VARIABLE} names {path}: {error.strerror}") from error
    raise AbsentPluginError(f"{VARIABLE} names {path}, and there is no such file or folder")


def _once(key: str, what: str, load: Callable[[], object]) -> None:
    """Load a plugin if it is not loaded; turn any exception of its code into one line.

    What it prints goes to stderr, since stdout is for data.
    """
    if key in _LOADED:
        return
    _LOADED.add(key)
    try:
        with redirect_stdout(sys.stderr):
            load()
    except BaseException as error:  # it may call sys.exit
        _LOADED.discard(key)
        if isinstance(error, KeyboardInterrupt | Interrupted):
            raise
        kind = "" if isinstance(error, DiaReproError) else type(error).__name__
        text = ": ".join(filter(None, (kind, " ".join(str(error).split()))))
        raise PluginError(f"{what}: {text}") from error


def _load_file(file: Path) -> None:
    if not file.is_file():  # a pipe would be waited for
        raise PluginError("it is no file")
    name = f"{PREFIX}{file.stem}_{hashlib.sha256(bytes(file)).hexdigest()[:8]}"  # by the whole path
    specification = spec_from_file_location(name, file)
    if specification is None or specification.loader is None:
        raise PluginError("it is no Python file")
    # Compiled from the bytes that are hashed: Python's cache takes a file of the same size and time
    # for the one that it has compiled.
    content = file.read_bytes()
    code = compile(content, file, "exec", dont_inherit=True)
    _HASHES[name] = hashlib.sha256(content).hexdigest()
    sys.modules[name] = module = module_from_spec(specification)
    try:
        exec(code, module.__dict__)  # noqa: S102 - a user's own file
    except BaseException:
        del sys.modules[name]
        raise
