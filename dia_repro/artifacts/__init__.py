"""The paper's tables and figures by name."""

from __future__ import annotations

from difflib import get_close_matches

from dia_repro.artifacts.table import Cell, Entry, TableArtifact, TableValue
from dia_repro.artifacts.table5 import TABLE5
from dia_repro.errors import UsageError

__all__ = [
    "ARTIFACTS",
    "Cell",
    "Entry",
    "TableArtifact",
    "TableValue",
    "UnknownArtifactError",
    "choose",
]

ARTIFACTS: dict[str, TableArtifact] = {artifact.name: artifact for artifact in (TABLE5,)}


class UnknownArtifactError(UsageError):
    """No artifact has that name."""


def choose(names: list[str]) -> list[TableArtifact]:
    """Artifacts by name, each once, in the order given; `all` stands for all of them.

    Raises:
        UnknownArtifactError: the message gives the nearest name.
    """
    chosen: dict[str, TableArtifact] = {}
    for name in names:
        key = name.lower()
        if key == "all":
            chosen.update(ARTIFACTS)
        elif key in ARTIFACTS:
            chosen[key] = ARTIFACTS[key]
        else:
            known = [*ARTIFACTS, "all"]
            near = get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise UnknownArtifactError(f"unknown artifact {name!r}: {hint}")
    return list(chosen.values())
