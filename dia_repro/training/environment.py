"""What a training process must find in its environment when it loads torch."""

from __future__ import annotations

import getpass
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# How long GNU's OpenMP threads look for work before they sleep: some milliseconds, since a small
# network's operations follow each other at once, and being woken takes longer than their part.
TRAINING = {"GOMP_SPINCOUNT": "3000000"}
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
    """Have compiled GPU code kept in the folder of temporary files where its own is not writable.

    Triton and torch's compiler write what they compile before they use it.
    """
    caches: dict[str, Callable[[], Path]] = {
        "TRITON_CACHE_DIR": lambda: Path("~/.triton/cache").expanduser(),
        "TORCHINDUCTOR_CACHE_DIR": lambda: Path(
            tempfile.gettempdir(), f"torchinductor_{getpass.getuser()}"
        ),
    }
    for variable, default in caches.items():
        try:
            folder = Path(os.environ.get(variable) or default())
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except (OSError, RuntimeError, KeyError):  # two of them: a user without a name or a home
            own = Path(tempfile.gettempdir(), f"dia-repro-{os.getuid()}", variable.lower())
            own.mkdir(parents=True, exist_ok=True)
            os.environ[variable] = str(own)
