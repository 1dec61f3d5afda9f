"""What the paper says of Figures 5 and 6, and whether one figure that is drawn says so too.

The sentences and what they are read from are those of the claims, which are judged by all seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dia_repro.analysis.gini import Integration
from dia_repro.analysis.gradients import RecordedRun
from dia_repro.analysis.states import Source
from dia_repro.claims.readings import RATIOS, STAGES, density_gains, earliness, gradient_gains
from dia_repro.paper import claim


@dataclass(frozen=True)
class Statement:
    """A claim of the paper, and what one figure says of it.

    Attributes:
        text: what it says, in short.
        holds: whether it does here.
        evidence: the figures that say so.
    """

    text: str
    holds: bool
    evidence: str

    def __str__(self) -> str:
        return f"{self.text}: {'holds' if self.holds else 'does not hold'} here ({self.evidence})"


def of_integration(found: Sequence[Integration]) -> list[Statement]:
    """Of Figure 5, as far as the stages are there (section "Feature integration")."""
    trained = {one.settings.stage: one for one in found if one.settings.source is Source.TRAINED}
    shuffled = {one.settings.stage: one for one in found if one.settings.source is Source.SHUFFLED}
    said = []
    if gains := density_gains(trained):
        evidence = "mean cell " + ", ".join(f"{trained[stage].density():.3f}" for stage in STAGES)
        if 3 in shuffled:
            evidence += f"; where nothing is learned, shuffled, {shuffled[3].density():.3f}"
        said.append(_statement("figure5-stage3", gains, evidence))
    if gains := earliness(trained):
        evidence = f"from layer {trained[1].main_source_of_last()} of {trained[1].layers - 1}"
        said.append(_statement("figure5-early", gains, evidence))
    return said


def of_gradients(found: Sequence[RecordedRun]) -> list[Statement]:
    """Of Figure 6, if both its networks are there: at the first and at the last record."""
    runs = {one.label: one for one in found}
    if not {"original", "DIANet"} <= runs.keys():
        return []
    dianet, original = runs["DIANet"], runs["original"]
    said = []
    for moment, name in enumerate(("figure6-initial", "figure6-trained")):
        ours = dianet.records[dianet.moments[moment]]
        theirs = original.records[original.moments[moment]]
        gains = gradient_gains(ours, theirs)
        ratios = ", ".join(f"{label} {10**gain:.2g}" for label, gain in gains.items())
        if gains.keys() < RATIOS.keys():
            ratios = "; ".join([ratios, "the others vanished or are not finite"])
        said.append(_statement(name, gains, ratios, whole=gains.keys() == RATIOS.keys()))
    return said


def _statement(
    name: str, gains: Mapping[str, float], evidence: str, *, whole: bool = True
) -> Statement:
    holds = whole and bool(gains) and all(gain > 0 for gain in gains.values())
    return Statement(claim(name).text, holds, evidence or "all of them vanished")
