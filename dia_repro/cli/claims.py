"""`claims`: what results say of each claim of the paper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from dia_repro.cli import options
from dia_repro.cli.output import emit, notice
from dia_repro.cli.tables import Results
from dia_repro.execution.options import command_line

if TYPE_CHECKING:
    from dia_repro.claims.verdicts import ClaimVerdict


@options.with_options
def claims(
    selection: Annotated[options.Selection, options.JUDGED],
    artifacts: options.AnyArtifacts = None,
    db: options.DatabaseOption = options.DEFAULT_DATABASE,
    data: options.DataFolder = options.DEFAULT_DATA,
    format_: options.FormatOption = options.Format.TABLE,
) -> None:
    """Judge each claim of the paper by the runs in the database; trains nothing.

    Supported: in every comparison the 95 % interval over paired seeds is on the claim's side and
    p ≤ 0.05 after Holm. Refuted: in one of them it is on the other side, and p ≤ 0.05 after Holm.
    Fewer than six seeds decide nothing, except on divergences, where one run counts if no other
    contradicts it, and on parameter counts.

    As csv or json: one record a comparison.

    Example: dia-repro claims --protocol demo
    """
    from dia_repro.claims.evaluate import evaluate_claims
    from dia_repro.claims.verdicts import RECORD_FIELDS, verdict_records
    from dia_repro.execution.requests import names_of_claims
    from dia_repro.rendering.claims import claims_table

    asked = artifacts or ["all"]
    results = Results(asked, selection, db, data)
    about = names_of_claims(results.artifacts, selection.only)
    verdicts = evaluate_claims(results.database, results.wanted)
    verdicts = tuple(verdict for verdict in verdicts if verdict.claim in about)
    records = verdict_records(verdicts)
    emit(format_, RECORD_FIELDS, records, claims_table(records))
    _sum_up(verdicts, asked, selection)


def _sum_up(
    verdicts: Sequence[ClaimVerdict], artifacts: Sequence[str], selection: options.Selection
) -> None:
    """Say how many there are of each verdict, and on what they rest."""
    from dia_repro.claims.verdicts import Verdict

    counts = Counter(one.verdict for one in verdicts)
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict)
    notice(f"{len(verdicts)} claims: {said}.")
    foreign = [o for o in verdicts if not o.papers_own and o.verdict is not Verdict.NOT_RUN]
    if foreign:
        protocols = " and ".join(dict.fromkeys(one.conditions.split(",")[0] for one in foreign))
        notice(
            f"{len(foreign)} of these verdicts do not rest on the paper's data and schedule "
            f"({protocols}): they show how the claims fare there, not whether the paper holds."
        )
    if counts[Verdict.NOT_RUN]:
        command = command_line("run", *artifacts, options=selection)
        notice(f"What is not run is trained by: {command}")
