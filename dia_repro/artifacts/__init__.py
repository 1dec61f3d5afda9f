"""Registry of artifacts: the paper's tables and figures, controls, and one's own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from dia_repro import plugins
from dia_repro.artifacts.controls import CONTROLS
from dia_repro.artifacts.figure5 import FIGURE5
from dia_repro.artifacts.figure6 import FIGURE6
from dia_repro.artifacts.table import Cell, Drawing, Entry, TableArtifact, TableValue
from dia_repro.artifacts.table1 import TABLE1
from dia_repro.artifacts.table3 import TABLE3
from dia_repro.artifacts.table4 import TABLE4
from dia_repro.artifacts.table5 import TABLE5
from dia_repro.artifacts.table6 import TABLE6
from dia_repro.artifacts.table7 import TABLE7
from dia_repro.artifacts.table8 import TABLE8
from dia_repro.artifacts.table9 import TABLE9
from dia_repro.errors import UsageError
from dia_repro.experiments.attention import parse_attention

__all__ = [
    "ARTIFACTS",
    "CONTROLS",
    "ArtifactError",
    "Cell",
    "Drawing",
    "Entry",
    "TableArtifact",
    "TableValue",
    "UnknownArtifactError",
    "artifact_named",
    "choose",
    "own_artifacts",
    "register_artifact",
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
# Names that stand for several artifacts.
GROUPS = {"all": ARTIFACTS, "controls": CONTROLS}
NAME = re.compile(r"[a-z][a-z0-9-]*")


class UnknownArtifactError(UsageError):
    """No artifact has that name."""


class ArtifactError(UsageError):
    """An artifact cannot be registered: its name clashes, or two of its networks do."""


def register_artifact(artifact: TableArtifact) -> TableArtifact:
    """Register an artifact of one's own; `all` includes it, as it does not include controls.

    Raises:
        ArtifactError: its name is taken or not made of lower-case letters, digits and hyphens, two
            networks share a cell, or one is compared with a cell that is not there.
    """
    name, entries = artifact.name, artifact.entries
    cells = [(entry.row, entry.column) for entry in entries]
    compared = {entry.compared_with for entry in entries if entry.compared_with}
    if name in GROUPS or not NAME.fullmatch(name):
        raise ArtifactError(f"artifact {name!r}: name it with lower-case letters, digits, hyphens")
    if name in CONTROLS or (name in ARTIFACTS and ARTIFACTS[name] != artifact):
        raise ArtifactError(f"artifact {name!r} is registered already")
    if len(set(cells)) < len(cells) or not cells or not compared <= set(cells):
        raise ArtifactError(
            f"artifact {name!r}: give each network a row and column of its own, and compare it "
            "with one of these"
        )
    ARTIFACTS[name] = artifact
    return artifact


def own_artifacts() -> list[TableArtifact]:
    """Return those that plugins register."""
    plugins.load()
    return [artifact for artifact in ARTIFACTS.values() if not artifact.in_paper]


def artifact_named(name: str) -> TableArtifact:
    """Return the artifact of exactly that name."""
    return CONTROLS[name] if name in CONTROLS else ARTIFACTS[name]


def choose(names: Iterable[str], attention: Iterable[str] = ()) -> list[TableArtifact]:
    """Return artifacts by name, each once, in the order given.

    `all` stands for the paper's and those of one's own, `controls` for the controls.

    Args:
        attention: kinds that networks of the artifacts get in addition to the artifacts' own,
            each with its options, e.g. "dia-lstm:reduction=8".

    Raises:
        UnknownArtifactError: the message gives the nearest name.
        KindNotRegisteredError: an attention kind is not known here.
        AttentionOptionError: it does not have such an option.
    """
    chosen: dict[str, TableArtifact] = {}
    plugins.load()
    for name in names:
        key = name.lower()
        if key in GROUPS:
            chosen.update(GROUPS[key])
        elif key in ARTIFACTS or key in CONTROLS:
            chosen[key] = artifact_named(key)
        else:
            known = [*ARTIFACTS, *CONTROLS, *GROUPS]
            near = get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise UnknownArtifactError(f"unknown artifact {name!r}: {hint}")
    kinds = [parse_attention(text) for text in attention]
    return [artifact.with_attention(*kinds) for artifact in chosen.values()]
