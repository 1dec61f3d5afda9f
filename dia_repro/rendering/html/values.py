"""What a page is made from: computed elsewhere, drawn here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dia_repro.artifacts.explanation import Findings
from dia_repro.claims.verdicts import ClaimVerdict

Key = tuple[str, str, str]  # artifact, row, column


@dataclass(frozen=True)
class Commands:
    """What to type for one cell of an artifact: to train it, and to see where it comes from."""

    train: str
    explain: str


@dataclass(frozen=True)
class Picture:
    """A drawn figure.

    Attributes:
        content: the file, whole.
        alt: what it shows, for those who do not see it.
    """

    kind: Literal["png", "svg"]
    content: bytes
    alt: str


@dataclass(frozen=True)
class Report:
    """All that goes on a page.

    Attributes:
        version: of this package.
        findings: of every artifact, for the overview.
        detailed: names of those that are shown whole.
        commands: for each cell of these.
        whole: by artifact, what trains all that it needs.
        pictures: by artifact.
        beside: those that the paper does not have.
    """

    version: str
    findings: tuple[Findings, ...]
    detailed: tuple[str, ...]
    commands: Mapping[Key, Commands]
    whole: Mapping[str, str]
    claims: tuple[ClaimVerdict, ...] = ()
    pictures: Mapping[str, Sequence[Picture]] = field(default_factory=dict)
    beside: Sequence[Picture] = ()
