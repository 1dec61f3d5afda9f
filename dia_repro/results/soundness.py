"""Whether rows are what dia-repro writes: asked by `db check`, and before rows are taken over."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import isfinite

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from dia_repro.experiments.spec import InvalidSpecError, Spec
from dia_repro.results.schema import EpochRow, ProvenanceRow, RunRow, SpecRow, State

UID = re.compile(r"[0-9a-f]{32}")
LARGEST = {"train_top1": 100.0, "test_top1": 100.0}  # the rest has no upper bound
MEASURED = ("lr", "train_loss", "train_top1", "test_loss", "test_top1", "seconds")


def id_problems(session: Session) -> Iterator[str]:
    """Say which ids are not what they should be; paths of checkpoints are made of them."""
    for row in session.scalars(select(SpecRow)):
        try:
            known = Spec.from_json(row.json).spec_id
        except InvalidSpecError as error:
            yield f"spec {_shown(row.spec_id)} cannot be read: {error}"
            continue
        if known != row.spec_id:
            yield f"spec {_shown(row.spec_id)} is not what its spec_id says"
    for number, uid in session.execute(select(RunRow.id, RunRow.uid)):
        if not UID.fullmatch(uid):
            yield f"run {number} has the uid {_shown(uid)}, which is none of dia-repro's"


def value_problems(session: Session) -> Iterator[str]:
    """Say which values no training can have given."""
    yield from _impossible_values(session)
    yield from _wrong_counts(session)
    yield from _mixed_data(session)


def _impossible_values(session: Session) -> Iterator[str]:
    columns = {name: getattr(EpochRow, name) for name in MEASURED}
    outside = [column < 0.0 for column in columns.values()]
    outside += [columns[name] > most for name, most in LARGEST.items()]
    for row in session.scalars(select(EpochRow).where(or_(*outside))):
        for name in MEASURED:
            value = getattr(row, name)
            if isfinite(value) and not 0 <= value <= LARGEST.get(name, value):
                yield f"run {row.run_id} has {name} {value:g} in epoch {row.epoch}"


def _wrong_counts(session: Session) -> Iterator[str]:
    counted = select(
        EpochRow.run_id, func.count(), func.min(EpochRow.epoch), func.max(EpochRow.epoch)
    )
    epochs = {row[0]: tuple(row[1:]) for row in session.execute(counted.group_by(EpochRow.run_id))}
    wanted = {row.spec_id: _epochs_of(row.json) for row in session.scalars(select(SpecRow))}
    for run in session.scalars(select(RunRow).order_by(RunRow.id)):
        count, first, last = epochs.get(run.id, (0, 1, 0))
        if (first, last) != (1, count):
            yield f"run {run.id} has {count} epochs, the last of which is epoch {last}"
        if run.state == State.FINISHED and count != (wanted.get(run.spec_id) or count):
            yield f"run {run.id} is finished with {count} epochs, not all of its spec's"


def _epochs_of(text: str) -> int | None:
    try:
        return Spec.from_json(text).recipe.epochs
    except InvalidSpecError:
        return None


def _mixed_data(session: Session) -> Iterator[str]:
    """Runs of one spec are shown together: their data have to be the same."""
    for spec_id, hashes in data_hashes(session).items():
        if len(hashes) > 1:
            yield (
                f"runs of spec {_shown(spec_id)} were trained on {len(hashes)} different data sets"
            )


def data_hashes(session: Session, spec_id: str | None = None) -> dict[str, set[str]]:
    """Return the hashes of the data that runs were trained on, by spec."""
    query = (
        select(RunRow.spec_id, ProvenanceRow.data_sha256)
        .join(ProvenanceRow, ProvenanceRow.run_id == RunRow.id)
        .distinct()
    )
    if spec_id is not None:
        query = query.where(RunRow.spec_id == spec_id)
    found: dict[str, set[str]] = {}
    for spec, digest in session.execute(query):
        found.setdefault(spec, set()).add(digest)
    return found


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
