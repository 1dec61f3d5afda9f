"""The paper's tables and figures by name."""

from __future__ import annotations

from difflib import get_close_matches

from dia_repro.artifacts.figure5 import FIGURE5
from dia_repro.artifacts.figure6 import FIGURE6
from dia_repro.artifacts.table import Cell, Entry, TableArtifact, TableValue
from dia_repro.artifacts.table1 import TABLE1
from dia_repro.artifacts.table3 import TABLE3
from dia_repro.artifacts.table4 import TABLE4
from dia_repro.artifacts.table5 import TABLE5
from dia_repro.artifacts.table6 import TABLE6
from dia_repro.artifacts.table7 import TABLE7
from dia_repro.artifacts.table8 import TABLE8
from dia_repro.artifacts.table9 import TABLE9
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

ARTIFACTS: dict[str, TableArtifact] = {
    artifact.name: artifact
    for artifact in (
        TABLE1,
        TABLE3,
        TABLE4,
        TABLE5,
        TABLE6,
        TABLE7,
        TABLE8,
        TABLE9,
        FIGURE5,
        FIGURE6,
    )
}


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
