"""Compiling by numba, with compiled code kept on disk for as long as that works.

Numba by itself raises where there is no folder to write to, and where what it reads is damaged.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.serialize import dumps


def cached_njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator like `numba.njit(cache=True)`, for which the cache is optional.

    Where no folder can be written, or its path is relative, functions are compiled in each
    process. Files that are damaged are compiled and written again.

    Args:
        options: options of `numba.njit`, without `cache`.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        dispatcher = njit(**options)(function)
        with suppress(RuntimeError, OSError):  # no folder to keep it in
            dispatcher._cache = _Cache(function)
        return dispatcher

    return compiled


class _Absolute:
    """Refuses a folder whose path is relative: what lies there is unpickled, and runs.

    Numba's is relative where the user has no home (`~/.cache`) or a variable is empty.
    """

    def get_cache_path(self) -> str:
        path: str = super().get_cache_path()  # type: ignore[misc]
        if not Path(path).is_absolute():
            raise NotADirectoryError(f"{path} is not absolute")
        return path


class _Checked(CompileResultCacheImpl):  # type: ignore[misc]
    """Keeps compiled code with its checksum: code that was damaged would crash the process."""

    _locator_classes = [  # noqa: RUF012 - as numba declares it
        type(locator.__name__, (_Absolute, locator), {})
        for locator in CompileResultCacheImpl._locator_classes
    ]

    def reduce(self, data: Any) -> tuple[bytes, bytes]:
        content = dumps(super().reduce(data))
        return hashlib.sha256(content).digest(), content

    def rebuild(self, target_context: Any, reduced_data: tuple[bytes, bytes]) -> Any:
        digest, content = reduced_data
        if hashlib.sha256(content).digest() != digest:
            raise ValueError("not what was written")
        return super().rebuild(target_context, pickle.loads(content))


class _Cache(FunctionCache):  # type: ignore[misc]
    _impl_class = _Checked

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # unpickling what is damaged raises whatever it likes
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(Exception):  # a full disk, or damaged files that cannot be replaced
            super().save_overload(sig, data)
