"""dia-repro: a reproduction suite for DIANet: Dense-and-Implicit Attention Network.

The public names below are imported when they are first used: importing the package takes
neither torch nor pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# The module that each public name comes from.
_PUBLIC = {
    "build": "dia_repro.models",
    "plan": "dia_repro.api",
    "run": "dia_repro.api",
    "open_results": "dia_repro.api",
    "merge": "dia_repro.api",
    "fetch_data": "dia_repro.api",
    "check_data": "dia_repro.api",
    "Results": "dia_repro.api",
}
__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """Import a public name.

    Raises:
        AttributeError: the package has no such name.
    """
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
