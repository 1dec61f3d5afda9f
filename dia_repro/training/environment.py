"""What a training process must find in its environment when it loads torch."""

from __future__ import annotations

import getpass
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

# How long GNU's OpenMP threads look for work before they sleep: some milliseconds, since a small
# network's operations follow each other at once, and being woken takes longer than their part.
TRAINING = {"GOMP_SPINCOUNT": "3000000"}
# For a new Python process: no import from the working folder, where a `torch.py` may lie.
SAFE_PATH = {"PYTHONSAFEPATH": "1"}
# With these OpenMP gives fewer threads than were asked for, and oneDNN's convolutions wait for the
# others for ever. How many threads a run has, the number of runs at a time decides.
FEWER_THREADS = ("OMP_DYNAMIC", "OMP_THREAD_LIMIT")


def forget_fewer_threads() -> None:
    """Remove the variables with which training would hang; call it before torch is loaded."""
    for name in FEWER_THREADS:
        os.environ.pop(name, None)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables for processes that are started inside the block; what the user has set stays."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def use_writable_caches() -> None:
    """Have compiled GPU code kept in a folder of this user's where its own is not usable.

    Triton and torch's compiler write what they compile, and run what they find. Their own folder is
    not used where it cannot be written, or where other users can write.
    """
    caches: dict[str, Callable[[], Path]] = {
        "TRITON_CACHE_DIR": lambda: Path("~/.triton/cache").expanduser(),
        "TORCHINDUCTOR_CACHE_DIR": lambda: Path(
            tempfile.gettempdir(), f"torchinductor_{getpass.getuser()}"
        ),
    }
    for variable, default in caches.items():
        try:
            chosen = os.environ.get(variable)
            folder = Path(chosen) if chosen else default()
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
            usable = bool(chosen) or _is_ours(folder)
        except (OSError, RuntimeError, KeyError):  # two of them: a user without a name or a home
            usable = False
        if not usable:
            own = _own_folder() / variable.lower()
            own.mkdir(exist_ok=True)
            os.environ[variable] = str(own)


def _own_folder() -> Path:
    """Return a folder for temporary files that other users cannot write; made if need be."""
    folder = Path(tempfile.gettempdir(), f"dia-repro-{os.getuid()}")
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    # Its name is known: another user may have made it first.
    return folder if _is_ours(folder) else Path(tempfile.mkdtemp(prefix="dia-repro-"))


def _is_ours(folder: Path) -> bool:
    """Tell whether a path is a folder, not a link to one, that this user alone can write."""
    status = folder.lstat()
    others = stat.S_IWGRP | stat.S_IWOTH
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.getuid()
        and not status.st_mode & others
    )
