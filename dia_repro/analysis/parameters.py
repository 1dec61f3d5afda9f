"""The paper's #P cells against the networks' own counts, without training anything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dia_repro.artifacts import TableArtifact
from dia_repro.experiments.names import Protocol
from dia_repro.experiments.protocols import Request
from dia_repro.models import count
from dia_repro.paper import deviation


@dataclass(frozen=True)
class ParameterCount:
    """A #P cell.

    Attributes:
        paper_millions: as printed.
        parameters: counted on the network that the paper's protocol trains.
        matches: whether the count, rounded to the print's decimals, is the print.
        note: why it does not, where that is known.
    """

    artifact: str
    row: str
    column: str
    paper_millions: str
    parameters: int
    matches: bool
    note: str

    @property
    def acceptable(self) -> bool:
        """Whether it matches, or is a known misprint."""
        return self.matches or bool(self.note)


def parameter_counts(artifacts: Iterable[TableArtifact]) -> list[ParameterCount]:
    """Every #P cell of the artifacts, in the paper's order."""
    counts = []
    for artifact in artifacts:
        for entry in artifact.entries:
            printed = artifact.paper.find(entry.row, entry.column, "params")
            if printed is None:
                continue
            spec = entry.spec(Request(Protocol.PAPER))
            counted = count(spec.model, spec.data.classes, spec.data.image_size).parameters
            matches = f"{counted / 1e6:.{printed.decimals}f}" == printed.printed
            known = None if matches else deviation(artifact.name, entry.row, entry.column)
            counts.append(
                ParameterCount(
                    artifact.name,
                    entry.row,
                    entry.column,
                    printed.printed,
                    counted,
                    matches,
                    known.reason if known else "",
                )
            )
    return counts
