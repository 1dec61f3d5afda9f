"""Registry of artifacts: the paper's tables and figures, controls, and the user's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from dia_repro import plugins
from dia_repro.artifacts.controls import CONTROLS
from dia_repro.artifacts.metrics import Cell
from dia_repro.artifacts.paper import PAPERS
from dia_repro.artifacts.table import Drawing, Entry, TableArtifact, TableValue
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

ARTIFACTS: dict[str, TableArtifact] = {artifact.name: artifact for artifact in PAPERS}
# Names that stand for several artifacts.
GROUPS = {"all": ARTIFACTS, "controls": CONTROLS}
NAME = re.compile(r"[a-z][a-z0-9-]*")


class UnknownArtifactError(UsageError):
    """No artifact has that name."""


class ArtifactError(UsageError):
    """An artifact cannot be registered: its name clashes, or two of its networks do."""


def register_artifact(artifact: TableArtifact) -> TableArtifact:
    """Register a user's artifact; `all` includes it.

    Raises:
        ArtifactError: its name is taken or not made of lower-case letters, digits and hyphens, two
            networks share a cell, or a network is compared with a cell that does not exist.
    """
    name = artifact.name
    cells = [entry.position for entry in artifact.entries]
    compared = {entry.compared_with for entry in artifact.entries if entry.compared_with}
    if name in GROUPS or not NAME.fullmatch(name):
        raise ArtifactError(f"artifact {name!r}: name it with lower-case letters, digits, hyphens")
    if name in CONTROLS or (name in ARTIFACTS and ARTIFACTS[name] != artifact):
        raise ArtifactError(f"artifact {name!r} is registered already")
    if len(set(cells)) < len(cells) or not cells or not compared <= set(cells):
        raise ArtifactError(
            f"artifact {name!r}: give each network its own row and column, and compare it "
            "with one of these"
        )
    ARTIFACTS[name] = artifact
    return artifact


def own_artifacts() -> list[TableArtifact]:
    """Return the artifacts that plugins register."""
    plugins.load()
    return [artifact for artifact in ARTIFACTS.values() if not artifact.in_paper]


def artifact_named(name: str) -> TableArtifact:
    """Return the artifact of exactly that name."""
    return CONTROLS[name] if name in CONTROLS else ARTIFACTS[name]


def choose(names: Iterable[str], attention: Iterable[str] = ()) -> list[TableArtifact]:
    """Return artifacts by name, each once, in the order given.

    `all` stands for the paper's and the user's artifacts, `controls` for the controls.

    Args:
        attention: kinds that networks of the artifacts get in addition to the artifacts' own,
            each with its options, e.g. "dia-lstm:reduction=8".

    Raises:
        UnknownArtifactError: the message gives the nearest name.
        KindNotRegisteredError: an attention kind is not known here.
        AttentionOptionError: it does not have such an option.
    """
    plugins.load()
    known = {name: {name: artifact} for name, artifact in {**ARTIFACTS, **CONTROLS}.items()}
    known |= GROUPS
    chosen: dict[str, TableArtifact] = {}
    for name in names:
        if name.lower() not in known:
            near = get_close_matches(name.lower(), known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            if re.fullmatch(r"(table|figure)\d+", name.lower()):  # as near to all others
                hint = f"nothing of it is trained; there are {', '.join(known)}"
            raise UnknownArtifactError(f"unknown artifact {name!r}: {hint}")
        chosen |= known[name.lower()]
    kinds = [parse_attention(text) for text in attention]
    return [artifact.with_attention(*kinds) for artifact in chosen.values()]
