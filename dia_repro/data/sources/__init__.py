"""The sources of images, one a file: each file in this folder registers its source."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

for found in iter_modules(__path__):
    import_module(f"{__name__}.{found.name}")
