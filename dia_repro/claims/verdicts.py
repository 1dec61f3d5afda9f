"""What is made of a claim of the paper: its verdict, and the evidence that it rests on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dia_repro.paper import CONTROLS_QUESTION, OWN_CLAIM

AGAINST_MARGIN = "p against the margin"  # note where two networks are to be about equal


class Verdict(StrEnum):
    """What results say of a claim; see `claims.rules` for the rules."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    UNDECIDED = "undecided"
    NOT_RUN = "not run"


class Epoch(StrEnum):
    """Which epoch's test accuracy counts."""

    BEST = "best"  # over epochs, as the paper reports it: the test set chooses the epoch
    LAST = "last"


@dataclass(frozen=True)
class Evidence:
    """One comparison that a claim needs.

    Attributes:
        compared: what with what, e.g. "ResNet164: DIANet − SENet".
        effect: its size in `unit`; None where there is nothing to compare yet.
        unit: "points" (of test accuracy, %), "M" (parameters in millions), "% diverged", …
        n: paired seeds, or runs where runs are counted.
        in_favour: whether the effect has the claim's direction, however small it is; None where
            that cannot be said.
        low, high: 95 % interval of the effect over seeds, in its unit; None with fewer than two
            seeds, and where nothing is estimated.
        images_low, images_high: the interval over seeds and test images; None where no accuracies
            are compared.
        p: of this comparison alone, two-sided; None without a test.
        p_corrected: after Holm across the claim's comparisons, which counts where the effect is
            on the other side; None where there is nothing to correct.
        test: the test behind interval and p; "" without one.
        detectable: the smallest effect that as many seeds find with 80 % power, in its unit; where
            p is against a margin, the smallest distance from it.
        runs: numbers of the runs behind it, in this database.
        uids: the same runs, by the names that they keep across databases.
        note: what else must be known, "" if nothing.
    """

    compared: str
    effect: float | None
    unit: str
    n: int
    in_favour: bool | None
    low: float | None = None
    high: float | None = None
    images_low: float | None = None
    images_high: float | None = None
    p: float | None = None
    p_corrected: float | None = None
    test: str = ""
    detectable: float | None = None
    runs: tuple[int, ...] = ()
    uids: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class ClaimVerdict:
    """A claim of the paper with what results say of it.

    Attributes:
        claim: its id, e.g. "table5-depth".
        artifact: the table or figure that it is about.
        text: what the paper claims, in our words.
        where: where the paper says so.
        evidence: a comparison each, in the claim's order.
        main: the index in `evidence` of the one that decides: the weakest that the verdict rests
            on; None where there is none.
        reason: for the verdict, one sentence.
        by: which epoch's accuracy the verdict rests on.
        otherwise: the verdict by the other epoch where it differs; None where it does not.
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
        """Return whether the paper makes the claim."""
        return self.where not in (CONTROLS_QUESTION, OWN_CLAIM)

    @property
    def main_evidence(self) -> Evidence | None:
        """The comparison that decides, if there is any."""
        return None if self.main is None else self.evidence[self.main]


NO_EVIDENCE = Evidence("", None, "", 0, None)
OF_CLAIM = (
    "claim",
    "artifact",
    "text",
    "where",
    "verdict",
    "reason",
    "by",
    "otherwise",
    "conditions",
    "papers_own",
)
OF_EVIDENCE = (
    "compared",
    "effect",
    "unit",
    "low",
    "high",
    "images_low",
    "images_high",
    "n",
    "p",
    "p_corrected",
    "test",
    "detectable",
    "in_favour",
    "note",
)
RECORD_FIELDS = (*OF_CLAIM, "main", *OF_EVIDENCE, "runs")


def verdict_records(verdicts: Iterable[ClaimVerdict]) -> list[dict[str, Any]]:
    """One record for each comparison of each claim, with `RECORD_FIELDS`.

    A claim without any has one that says so. `runs` are uids with a space between, `main` is
    whether the comparison is the one that decides.
    """
    return [
        {
            **{name: getattr(one, name) for name in OF_CLAIM},
            **{name: getattr(evidence, name) for name in OF_EVIDENCE},
            "main": index == one.main,
            "runs": " ".join(evidence.uids),
        }
        for one in verdicts
        for index, evidence in enumerate(one.evidence or (NO_EVIDENCE,))
    ]
