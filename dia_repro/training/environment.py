"""Environment variables and private folders of processes that load torch."""

from __future__ import annotations

import getpass
import os
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from dia_repro.errors import AbsentError, UsageError, displayed_text

# How long GNU's OpenMP threads look for work before they sleep: some milliseconds, since operations
# of a small network follow each other at once, and waking up takes longer than they do.
TRAINING = {"GOMP_SPINCOUNT": "3000000"}
# For a new Python process: no import from the working folder, where a `torch.py` may lie.
SAFE_PATH = {"PYTHONSAFEPATH": "1"}
# With these OpenMP gives fewer threads than were asked for, and oneDNN's convolutions wait for the
# others without end.
FEWER_THREADS = ("OMP_DYNAMIC", "OMP_THREAD_LIMIT", "OMP_STACKSIZE", "GOMP_STACKSIZE")
# Variables whose values can make the import of torch fail or end the process, and the usual values
# that torch accepts, which need not be tried.
ALLOCATOR = re.compile(
    r"(,?(expandable_segments:(True|False)|max_split_size_mb:[1-9]\d{2,}"
    r"|garbage_collection_threshold:0\.\d*[1-9]|backend:native))*"
)
EMPTY, NONE = re.compile(""), re.compile("(?!)")
READ_BY_TORCH = {
    "TORCH_LOGS": EMPTY,
    "TORCH_LOGS_FORMAT": EMPTY,
    "TORCH_LOGS_OUT": EMPTY,
    "TORCH_PYTHON_NATIVE_USER_GRAPH_ORDER_FN": EMPTY,
    "PYTORCH_MATCHER_LOGLEVEL": EMPTY,
    "COMPILE_STROBELIGHT_MAX_PROFILE_TIME": EMPTY,
    "COMPILE_STROBELIGHT_MAX_STACK_LENGTH": EMPTY,
    "COMPILE_STROBELIGHT_SAMPLE_RATE": EMPTY,
    "TORCH_CUDA_SANITIZER": NONE,
    "TORCH_DISTRIBUTED_DEBUG": re.compile("(OFF|INFO|DETAIL)?"),
    "PYTORCH_JIT": re.compile("[01]?"),
    "PYTORCH_ALLOC_CONF": ALLOCATOR,
    "PYTORCH_CUDA_ALLOC_CONF": ALLOCATOR,
}
# What Python's `tempfile` tries after the variables.
USUAL_TEMPORARY_FOLDERS = {"/tmp", "/var/tmp", "/usr/tmp"}  # noqa: S108


class SettingError(UsageError):
    """A variable of the environment has a value that a library refuses."""


class SharedFolderError(AbsentError):
    """The folder for temporary files is not this user's alone, or depends on the working folder."""


def forget_settings() -> None:
    """Remove variables with which training hangs, fails or computes otherwise.

    Call it before torch or numba is loaded. The only variable of numba that stays is the folder of
    its cache: others choose other arithmetic, or no compilation, or end in an error.
    """
    for name in list(os.environ):
        if name in FEWER_THREADS or (name.startswith("NUMBA_") and name != "NUMBA_CACHE_DIR"):
            del os.environ[name]


def check_settings() -> None:
    """Raise `SettingError` for variables with which torch cannot be used; others cost no time."""
    known = {name: os.environ[name] for name in READ_BY_TORCH if name in os.environ}
    doubtful = {n: text for n, text in known.items() if not READ_BY_TORCH[n].fullmatch(text)}
    rest = {name: text for name, text in os.environ.items() if name not in doubtful}
    if doubtful and not _imports_torch(os.environ) and _imports_torch(rest):
        shown = ", ".join(f"{name}={displayed_text(text)}" for name, text in doubtful.items())
        raise SettingError(f"torch cannot be loaded with {shown}: unset it")


def _imports_torch(variables: Mapping[str, str]) -> bool:
    # With an operation, since without a GPU its sanitizer lets torch be imported and no more.
    command = [sys.executable, "-P", "-c", "import torch; torch.ones(1) + 1"]
    return not subprocess.run(command, env=variables, capture_output=True, check=False).returncode


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables for processes that are started inside the block; those of the user stay."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def use_writable_caches() -> None:
    """Keep compiled GPU code in a private folder of this user where the usual one is not usable.

    Triton and torch's compiler run what they find in their folder. It is not used where it cannot
    be written, where other users can write, or where its path is relative: files of the working
    folder would be run.
    """
    triton = Path(os.environ.get("TRITON_HOME", "~"), ".triton/cache")
    caches: dict[str, Callable[[], Path]] = {
        "TRITON_CACHE_DIR": triton.expanduser,
        "TORCHINDUCTOR_CACHE_DIR": lambda: (
            Path(_temporary_folder()) / f"torchinductor_{getpass.getuser()}"
        ),
    }
    for variable, default in caches.items():
        if not _is_usable(os.environ.get(variable), default):
            try:
                folder = own_folder()
            except SharedFolderError:
                folder = Path(tempfile.mkdtemp(prefix="dia-repro-"))
            (folder / variable.lower()).mkdir(exist_ok=True)
            os.environ[variable] = str(folder / variable.lower())


def _is_usable(chosen: str | None, default: Callable[[], Path]) -> bool:
    """Return whether compiled code can be kept in the chosen folder, or in the default one."""
    try:
        folder = default() if chosen is None else Path(chosen)
        if not folder.is_absolute():
            return False
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        return chosen is not None or _is_ours(folder)
    except (OSError, RuntimeError, KeyError, SharedFolderError):  # no name, no home of the user
        return False


def own_folder() -> Path:
    """Return the folder for temporary files of this user's processes; made if need be.

    Raises:
        OSError: it cannot be made.
        SharedFolderError: other users can write in it or have made it first, or it would be in the
            working folder.
    """
    folder = Path(_temporary_folder(), f"dia-repro-{os.getuid()}")
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not _is_ours(folder):
        raise SharedFolderError(
            f"{folder} is a link, another user's, or writable by others: "
            "remove it, or set TMPDIR to a folder that only you can write"
        )
    return folder


def _temporary_folder() -> str:
    """Return the folder for temporary files, which is the same in each working folder.

    Python uses the working folder where TMPDIR is relative or no other can be written.
    """
    folder = tempfile.gettempdir()
    chosen = [os.environ.get(name, "") for name in ("TMPDIR", "TEMP", "TMP")]
    absolute = {os.path.normpath(path) for path in chosen if Path(path).is_absolute()}
    known = folder in absolute | USUAL_TEMPORARY_FOLDERS
    if not known and Path(folder).is_relative_to(Path.cwd()):
        raise SharedFolderError(
            f"{folder} would hold temporary files: set TMPDIR to the absolute path of a folder"
        )
    return folder


def _is_ours(folder: Path) -> bool:
    """Return whether a path is a folder, not a link to one, that only this user can write."""
    status = folder.lstat()
    others = stat.S_IWGRP | stat.S_IWOTH
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.getuid()
        and not status.st_mode & others
    )
