"""What the paper says of Figures 5 and 6, and whether the figures drawn here say so too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dia_repro.analysis.gini import Integration
from dia_repro.analysis.gradients import RecordedRun
from dia_repro.analysis.states import Source

# A source in the first half of the layers before it is an early one.
EARLY = 0.5


@dataclass(frozen=True)
class Statement:
    """A sentence of the paper.

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
    if {1, 2, 3} <= trained.keys():
        cells = {stage: trained[stage].density() for stage in (1, 2, 3)}
        evidence = "mean cell " + ", ".join(f"{cells[stage]:.3f}" for stage in (1, 2, 3))
        if 3 in shuffled:
            evidence += f"; where nothing is learned, shuffled, {shuffled[3].density():.3f}"
        holds = cells[3] > max(cells[1], cells[2])
        said.append(Statement("Stage 3 draws on more layers than stages 1 and 2", holds, evidence))
    if 1 in trained:
        source, before = trained[1].main_source_of_last(), trained[1].layers - 1
        said.append(
            Statement(
                "In stage 1 the last layer draws most from an early one",
                source <= EARLY * before,
                f"from layer {source} of {before}",
            )
        )
    return said


def of_gradients(found: Sequence[RecordedRun]) -> list[Statement]:
    """Of Figure 6, if both its networks are there: at the first and at the last record."""
    runs = {one.label: one for one in found}
    if not {"original", "DIANet"} <= runs.keys():
        return []
    dianet, original = runs["DIANet"], runs["original"]
    said = []
    for moment, when in enumerate(("at initialisation", "at the last record")):
        pairs = list(
            zip(
                dianet.records[dianet.moments[moment]],
                original.records[original.moments[moment]],
                strict=True,
            )
        )
        ratios = [
            tuple(_ratio(ours[name], theirs[name]) for name in ("mean", "variance"))
            for ours, theirs in pairs
        ]
        evidence = "DIANet ÷ original, mean and variance: " + ", ".join(
            f"{mean:.2g} and {variance:.2g} in stage {stage}"
            for stage, (mean, variance) in enumerate(ratios, start=1)
        )
        said.append(
            Statement(
                f"DIANet's gradients have the larger mean and variance in each stage {when}",
                all(mean > 1 and variance > 1 for mean, variance in ratios),
                evidence,
            )
        )
    return said


def _ratio(ours: float, theirs: float) -> float:
    return ours / theirs if theirs else float("inf")
