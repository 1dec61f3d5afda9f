"""Verdict on a claim, with the evidence behind it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from dia_repro.paper.claims import CONTROLS_QUESTION, OWN_CLAIM

if TYPE_CHECKING:
    from dia_repro.results.queries import RunSummary

AGAINST_MARGIN = "p against the margin"  # note where two networks are to be about equal


class Verdict(StrEnum):
    """Verdict of results on a claim; see `claims.rules` for the rules."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    UNDECIDED = "undecided"
    NOT_RUN = "not run"


class Epoch(StrEnum):
    """The epoch whose test accuracy counts."""

    BEST = "best"  # over epochs, as the paper reports it: the test set chooses the epoch
    LAST = "last"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A comparison that a claim needs.

    Attributes:
        compared: both sides, e.g. "ResNet164: DIANet − SENet".
        effect: size in `unit`; None without any result.
        unit: "points" (of test accuracy, %), "M" (parameters in millions), "% diverged", …
        low, high: 95 % interval of the effect over seeds, in its unit; None with fewer than two
            seeds, and where nothing is estimated.
        images_low, images_high: the interval over seeds and test images; None where no accuracies
            are compared.
        n: number of paired seeds, or of runs where runs are counted.
        p: two-sided p of this comparison alone; None without a test.
        p_corrected: p after Holm across the claim's comparisons, which counts where the effect is
            on the other side; None where there is nothing to correct.
        test: name of the test behind interval and p; "" without a test.
        detectable: the smallest effect that as many seeds find with 80 % power, in its unit; where
            p is against a margin, the smallest distance from it.
        in_favour: whether the effect has the claim's direction, however small it is; None where
            that cannot be said.
        note: remark for the reader, or "".
        runs: the runs behind it.
    """

    compared: str
    effect: float | None = None
    unit: str
    low: float | None = None
    high: float | None = None
    images_low: float | None = None
    images_high: float | None = None
    n: int = 0
    p: float | None = None
    p_corrected: float | None = None
    test: str = ""
    detectable: float | None = None
    in_favour: bool | None = None
    note: str = ""
    runs: tuple[RunSummary, ...] = ()


@dataclass(frozen=True)
class Judgement:
    """Verdict that follows from evidence.

    Attributes:
        evidence: a comparison each, in the claim's order.
        main: index in `evidence` of the comparison that decides: the weakest that the verdict
            rests on; None without evidence.
        reason: reason for the verdict, one sentence.
    """

    verdict: Verdict
    evidence: tuple[Evidence, ...]
    main: int | None
    reason: str


@dataclass(frozen=True)
class ClaimVerdict:
    """Verdict on a claim of the paper.

    Attributes:
        claim: name of the claim, e.g. "table5-depth".
        artifact: the table or figure that the claim is about.
        text: the claim in our words.
        where: the claim's position in the paper.
        evidence, main, reason: see `Judgement`.
        by: the epoch whose accuracies are compared. "Trains" and overfitting rest on the last one
            in any case, and some claims on none.
        otherwise: the verdict by the other epoch, if it differs.
        conditions: protocol, data, precision and statistic, in words.
        papers_own: whether data and schedule are the paper's.
    """

    claim: str
    artifact: str
    text: str
    where: str
    verdict: Verdict
    evidence: tuple[Evidence, ...]
    main: int | None
    reason: str
    by: Epoch
    otherwise: Verdict | None
    conditions: str
    papers_own: bool

    @property
    def of_paper(self) -> bool:
        """True if the paper makes the claim."""
        return self.where not in (CONTROLS_QUESTION, OWN_CLAIM)


OF_CLAIM = [field.name for field in fields(ClaimVerdict) if field.name not in ("evidence", "main")]
OF_EVIDENCE = [field.name for field in fields(Evidence) if field.name != "runs"]
RECORD_FIELDS = (*OF_CLAIM, "main", *OF_EVIDENCE, "runs")


def verdict_records(verdicts: Iterable[ClaimVerdict]) -> list[dict[str, Any]]:
    """Return a record for each comparison of each claim, with `RECORD_FIELDS`.

    A claim without comparisons has a single record. `runs` are uids, which are the same in every
    database, with a space between; `main` is whether the comparison decides.
    """
    return [
        {
            **{name: getattr(verdict, name) for name in OF_CLAIM},
            **{name: getattr(evidence, name) for name in OF_EVIDENCE},
            "main": index == verdict.main,
            "runs": " ".join(run.uid for run in evidence.runs),
        }
        for verdict in verdicts
        for index, evidence in enumerate(verdict.evidence or (Evidence(compared="", unit=""),))
    ]
